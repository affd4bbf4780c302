//! Digests of many entries at little cost.
//!
//! Members exchange their indexes with every change of the group. Most entries have not changed since the last exchange,
//! so each node remembers its digest. What a verification compares must not be remembered: it is there to find memory that
//! is not what it should be. It takes a snapshot instead, to hash without anybody waiting.

use std::ops::Bound;

use super::{Node, Rules, Tree};
use crate::{
    checksum::{self, Digest, HashedEntry},
    entry::Entry,
    index::{Index, IndexEntry},
};

/// All entries as they were at one moment. Contents are shared with the tree, so it costs little to make, and as long as
/// it lives the first write to a file copies the file.
#[derive(Debug, Clone)]
pub struct Snapshot(Vec<Entry>);

impl Snapshot {
    /// Digest over all entries in ascending order of inodes, the root included: what a verification compares. Always
    /// computed from the contents, which takes a while.
    pub fn checksum(&self) -> Digest {
        checksum::whole(&self.0)
    }
}

impl Tree {
    /// All entries as they are now: to be hashed when the tree is not locked any more.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.entries().cloned().collect())
    }

    /// The next entries above this inode in ascending order, at most `count` of them, with the digests that a replicated tree
    /// remembers.
    pub fn hashed_above(&self, inode: u64, count: usize) -> Vec<HashedEntry> {
        let above = (Bound::Excluded(inode), Bound::Unbounded);
        let nodes = self.nodes.range(above).take(count);
        let entries = nodes.map(|(_, node)| HashedEntry {
            entry: node.entry().clone(),
            digest: node.index_digest(),
        });
        entries.collect()
    }

    /// Makes a replicated tree remember the digests of the next entries above this inode, at most `count` of them. Returns the
    /// last of them.
    pub(crate) fn learn_digests(&self, inode: u64, count: usize) -> Option<u64> {
        let above = (Bound::Excluded(inode), Bound::Unbounded);
        let nodes = self.nodes.range(above).take(count);
        let inodes = nodes.map(|(inode, node)| {
            node.index_digest();
            *inode
        });
        inodes.last()
    }

    /// The index of all entries, reachable or not. A tree that is replicated remembers digests, 40 bytes for each entry, and
    /// hashes only what has changed since the last time; others are not asked twice.
    pub fn index(&self) -> Index {
        let digest = match self.rules {
            Rules::Local => |node: &Node| node.entry().index_digest(),
            Rules::Replicated => Node::index_digest,
        };
        let entries = self.nodes.iter().map(|(inode, node)| IndexEntry {
            inode: *inode,
            digest: digest(node),
        });
        Index::new(self.root(), entries)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Operation, RootState, Stamp};

    fn apply(tree: &mut Tree, operation: &Operation) {
        let stamp = Stamp {
            writer: 1,
            mtime: 5,
        };
        tree.apply(operation, stamp, 0, &mut Vec::new())
            .expect("it is possible");
    }

    fn path(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn write(path: Bytes) -> Operation {
        Operation::Write {
            path,
            offset: 0,
            data: Bytes::from_static(b"content"),
            truncate: false,
        }
    }

    /// A directory `d` (2), files `a` (3) and `b` (4) with content.
    fn tree(rules: Rules) -> Tree {
        let mut tree = Tree::new(
            RootState {
                version: 1,
                ..RootState::default()
            },
            rules,
        );
        apply(&mut tree, &Operation::Mkdir { path: path("d") });
        for name in ["a", "b"] {
            apply(&mut tree, &Operation::Create { path: path(name) });
        }
        for name in ["a", "b"] {
            apply(&mut tree, &write(path(name)));
        }
        tree
    }

    /// Inodes whose digest would have to be computed.
    fn unknown(tree: &Tree) -> Vec<u64> {
        let nodes = tree.nodes.iter().filter(|(_, node)| !node.knows_digest());
        nodes.map(|(inode, _)| *inode).collect()
    }

    #[test]
    fn an_index_costs_as_many_hashes_as_entries_have_changed() {
        let mut tree = tree(Rules::Replicated);
        assert_eq!(unknown(&tree), [0, 2, 3, 4]);
        let table = [
            (write(path("a")), vec![0, 3]),
            (Operation::Create { path: path("d/x") }, vec![0, 8]),
            (
                Operation::Rename {
                    from: path("b"),
                    to: path("d/x"),
                },
                vec![0, 4],
            ),
            (
                Operation::SetMtime {
                    path: path("d"),
                    mtime: 77,
                },
                vec![0, 2],
            ),
            (Operation::Delete { path: path("a") }, vec![0]),
        ];
        for (operation, expected) in table {
            let _index = tree.index();
            assert_eq!(unknown(&tree), [0; 0]);
            apply(&mut tree, &operation);
            assert_eq!(unknown(&tree), expected, "{operation:?}");
        }
    }

    #[test]
    fn a_tree_on_its_own_remembers_nothing() {
        let tree = tree(Rules::Local);
        let _index = tree.index();
        assert_eq!(unknown(&tree), [0, 2, 3, 4]);
    }

    #[test]
    fn a_tree_made_of_hashed_entries_remembers_their_digests() {
        let former = tree(Rules::Replicated);
        assert_eq!(former.learn_digests(0, 2), Some(3));
        assert_eq!(unknown(&former), [0, 4]);
        assert_eq!(former.learn_digests(4, 2), None);
        let mut entries = former.hashed_above(0, 2);
        assert_eq!(unknown(&former), [0, 4]);
        entries.extend(former.hashed_above(3, 2));
        let root = former.root();
        let new = Tree::from_hashed(root, entries, Rules::Replicated, 0).expect("a tree");
        assert_eq!(unknown(&new), [0]);
        assert_eq!(new.index(), former.index());
    }

    #[test]
    fn a_snapshot_stays_what_it_was() {
        let mut tree = tree(Rules::Replicated);
        let (snapshot, checksum) = (tree.snapshot(), tree.snapshot().checksum());
        apply(&mut tree, &write(path("a")));
        let over = Operation::Write {
            path: path("b"),
            offset: 2,
            data: Bytes::from_static(b"XYZ"),
            truncate: true,
        };
        apply(&mut tree, &over);
        assert_eq!(snapshot.checksum(), checksum);
        assert_ne!(tree.snapshot().checksum(), checksum);
        assert_eq!(snapshot.0[3].data, "content");
    }
}
