//! Random operations on the tree and on a naive model of the rules, compared after each; and the reported changes
//! replayed on the state before, which the crash journal relies on.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::Model;
use pmxcfs_memdb::{
    Change, Entry, EntryKind, Index, IndexEntry, Operation, Precheck, ROOT_INODE, RootState, Rules,
    Stamp, Tree, splice,
};
use proptest::prelude::*;

const COMPONENTS: [&[u8]; 24] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"",
    b".",
    b"..",
    b"\xff",
    b"nodes",
    b"n1",
    b"n-2",
    b"-n",
    b"qemu-server",
    b"lxc",
    b"openvz",
    b"100.conf",
    b"101.conf",
    b"0100.conf",
    b"4294967296.conf",
    b"priv",
    b"lock",
    b"l1",
    b"ha",
    b"storage.cfg",
];

const USUAL_PATHS: [&str; 22] = [
    "",
    ".",
    "a",
    "b",
    "a/b",
    "a/b/c",
    "d",
    "ha",
    "ha/groups.cfg",
    "storage.cfg",
    "corosync.conf",
    "nodes/n1",
    "nodes/n1/qemu-server",
    "nodes/n1/qemu-server/100.conf",
    "nodes/n1/qemu-server/101.conf",
    "nodes/n1/lxc/100.conf",
    "nodes/n-2/lxc/100.conf",
    "nodes/n-2/qemu-server/101.conf",
    "nodes/n-2/openvz/100.conf",
    "priv/lock",
    "priv/lock/l1",
    "priv/lock/l1/a",
];

/// Directories that are there from the start, so that operations find something to work on.
const FIRST_DIRECTORIES: [&str; 13] = [
    "a",
    "ha",
    "priv",
    "priv/lock",
    "nodes",
    "nodes/n1",
    "nodes/n1/qemu-server",
    "nodes/n1/lxc",
    "nodes/n-2",
    "nodes/n-2/lxc",
    "nodes/n-2/qemu-server",
    "nodes/n-2/openvz",
    "nodes/-n",
];

fn path() -> impl Strategy<Value = Bytes> {
    let usual = prop::sample::select(&USUAL_PATHS[..]).prop_map(|path| path.as_bytes().to_vec());
    let odd_component = prop::sample::select(&COMPONENTS[..]);
    let odd = prop::collection::vec(odd_component, 0..5).prop_map(|parts| parts.join(&b'/'));
    let ornament = prop::sample::select(&["", "", "", "", "/", "//"][..]);
    let path = prop_oneof![8 => usual, 2 => odd];
    (ornament.clone(), path, ornament)
        .prop_map(|(front, path, back)| [front.as_bytes(), &path, back.as_bytes()].concat().into())
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0u64..12,
        1 => prop::sample::select(&[4096, 1 << 20, (1 << 20) - 1, (1 << 20) + 1, 1 << 32, u64::MAX][..]),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let data = prop::collection::vec(1u8.., 0..8).prop_map(Bytes::from);
    prop_oneof![
        3 => path().prop_map(|path| Operation::Mkdir { path }),
        4 => path().prop_map(|path| Operation::Create { path }),
        5 => (path(), offset(), data, any::<bool>()).prop_map(|(path, offset, data, truncate)| {
            Operation::Write { path, offset, data, truncate }
        }),
        3 => path().prop_map(|path| Operation::Delete { path }),
        5 => (path(), path()).prop_map(|(from, to)| Operation::Rename { from, to }),
        2 => (path(), 0u32..20).prop_map(|(path, mtime)| Operation::SetMtime { path, mtime }),
    ]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (1u32..3, 0u32..20).prop_map(|(writer, mtime)| Stamp { writer, mtime })
}

fn rules() -> impl Strategy<Value = Rules> {
    prop::sample::select(&[Rules::Local, Rules::Replicated][..])
}

fn start(rules: Rules) -> (Tree, Model) {
    let root = RootState {
        version: 1,
        ..RootState::default()
    };
    let (mut tree, mut model) = (Tree::new(root, rules), Model::new(root, rules));
    for directory in FIRST_DIRECTORIES {
        let operation = Operation::Mkdir {
            path: Bytes::from_static(directory.as_bytes()),
        };
        let stamp = Stamp {
            writer: 1,
            mtime: 10,
        };
        assert_eq!(tree.apply(&operation, stamp, 0, &mut Vec::new()), Ok(0));
        assert_eq!(model.apply(&operation, stamp), Ok(0));
    }
    (tree, model)
}

/// Whether paths are as the kernel gives them. Others reach the same entries past the rules for guest configs, which are
/// literal.
fn has_plain_paths(operation: &Operation) -> bool {
    let is_plain = |path: &Bytes| {
        let parts: Vec<&[u8]> = pmxcfs_api_types::path::components(path).collect();
        parts.join(&b'/') == *path && parts.first() != Some(&&b"."[..])
    };
    match operation {
        Operation::Rename { from, to } => is_plain(from) && is_plain(to),
        Operation::Mkdir { path }
        | Operation::Create { path }
        | Operation::Write { path, .. }
        | Operation::Delete { path }
        | Operation::SetMtime { path, .. } => is_plain(path),
    }
}

/// Applies an operation that may as well be refused.
fn attempt(tree: &mut Tree, operation: &Operation, stamp: Stamp) {
    match tree.apply(operation, stamp, 0, &mut Vec::new()) {
        Ok(_) | Err(_) => {}
    }
}

fn uncached_index(tree: &Tree) -> Index {
    let entries: Vec<IndexEntry> = tree
        .entries()
        .map(|entry| IndexEntry {
            inode: entry.inode,
            digest: entry.index_digest(),
        })
        .collect();
    Index::new(tree.root(), entries.into_iter())
}

fn entries(tree: &Tree) -> BTreeMap<u64, Entry> {
    tree.entries()
        .map(|entry| (entry.inode, entry.clone()))
        .collect()
}

fn assert_equal(tree: &Tree, model: &Model) {
    assert_eq!(&entries(tree), &model.entries);
    assert_eq!(tree.root(), model.root());
    assert_eq!(tree.guests(), &model.guests);
    assert_eq!(tree.file_versions(), &model.file_versions);
    assert_eq!(tree.entry_count(), model.entries.len());

    let sizes: u64 = model
        .entries
        .values()
        .map(|entry| u64::from(entry.size))
        .sum();
    let statfs = tree.statfs();
    assert_eq!(statfs.blocks_free, 32768 - sizes.div_ceil(4096));
    assert_eq!(statfs.files_free, 262_144 - model.entries.len() as u64);

    for entry in model.entries.values() {
        let path = model.path_of(entry.inode);
        assert_eq!(tree.path_of(entry.inode).as_deref(), Some(&path[..]));
        let is_private = pmxcfs_api_types::path::is_private(&path);
        assert_eq!(tree.is_private(entry.inode), is_private, "{path:?}");
        assert_eq!(tree.lookup(&path), Some(entry));
        assert_listing(tree, model, entry);
    }
}

fn assert_listing(tree: &Tree, model: &Model, entry: &Entry) {
    let Some(listing) = tree.listing(entry.inode) else {
        assert_eq!(entry.kind, EntryKind::File);
        return;
    };
    let listed: BTreeSet<_> = listing
        .iter()
        .map(|row| (row.inode, row.kind as u8, row.name.clone()))
        .collect();
    let expected: BTreeSet<_> = model
        .entries
        .values()
        .filter(|child| child.parent == entry.inode && child.inode != ROOT_INODE)
        .map(|child| (child.inode, child.kind as u8, child.name.clone()))
        .collect();
    assert_eq!(listed.len(), listing.len());
    assert_eq!(listed, expected);
}

/// What a journal does: the changes carry contents, everything else of an entry is noted as it is afterwards.
fn replay(before: &mut BTreeMap<u64, Entry>, changes: &[Change], after: &BTreeMap<u64, Entry>) {
    for change in changes {
        match change {
            Change::Put { inode } => {
                let noted = after[inode].clone();
                let former = before.get(inode);
                let entry = Entry {
                    data: former.map(|entry| entry.data.clone()).unwrap_or_default(),
                    size: former.map_or(0, |entry| entry.size),
                    ..noted
                };
                before.insert(*inode, entry);
            }
            Change::Content {
                inode,
                keep,
                offset,
                data,
                size,
            } => {
                let former = before[inode].data.clone();
                let entry = Entry {
                    data: splice(former, *keep, *offset, data, *size),
                    size: *size,
                    ..after[inode].clone()
                };
                before.insert(*inode, entry);
            }
            Change::Removed {
                inode,
                parent,
                name,
            } => {
                let entry = before.remove(inode).expect("it was there");
                assert_eq!((&entry.parent, &entry.name), (parent, name));
            }
        }
    }
    before.insert(ROOT_INODE, after[&ROOT_INODE].clone());
}

proptest! {
    #[test]
    fn the_tree_follows_the_rules(
        rules in rules(),
        operations in prop::collection::vec((operation(), stamp()), 1..60),
    ) {
        let (mut tree, mut model) = start(rules);
        for (operation, stamp) in operations {
            let before = entries(&tree);
            let mut changes = Vec::new();
            let result = tree.apply(&operation, stamp, 0, &mut changes);
            prop_assert_eq!(result, model.apply(&operation, stamp), "{:?}", operation);
            assert_equal(&tree, &model);

            let after = entries(&tree);
            if changes.is_empty() {
                prop_assert_eq!(&before, &after);
            }
            let mut replayed = before;
            replay(&mut replayed, &changes, &after);
            prop_assert_eq!(replayed, after, "{:?}: {:?}", operation, changes);
        }
    }

    #[test]
    fn a_tree_built_from_the_entries_is_the_same(
        rules in rules(),
        operations in prop::collection::vec((operation(), stamp()), 1..60),
    ) {
        let (mut tree, _) = start(rules);
        for (operation, stamp) in operations {
            let sent = tree.check_before_send(&operation) == Ok(Precheck::Proceed);
            if sent && has_plain_paths(&operation) {
                attempt(&mut tree, &operation, stamp);
            }
        }
        let rows: Vec<Entry> = tree.entries().skip(1).cloned().collect();
        let built = Tree::from_entries(tree.root(), rows, rules, 0).expect("what was checked can be loaded");
        prop_assert!(built.entries().eq(tree.entries()));
        prop_assert_eq!(built.warnings(), []);
        prop_assert_eq!(built.statfs(), tree.statfs());
        prop_assert_eq!(built.snapshot().checksum(), tree.snapshot().checksum());
        prop_assert_eq!(built.index(), tree.index());
        let places = |tree: &Tree| -> Vec<_> {
            let guests = tree.guests().guests.iter();
            guests.map(|(id, guest)| (*id, guest.kind, guest.node.clone())).collect()
        };
        let has_nodes = built.lookup(b"nodes").is_some_and(Entry::is_directory);
        if has_nodes {
            prop_assert_eq!(places(&built), places(&tree));
        }
        for entry in tree.entries() {
            prop_assert!(!entry.is_hole());
            prop_assert_eq!(built.path_of(entry.inode), tree.path_of(entry.inode));
            prop_assert_eq!(built.is_private(entry.inode), tree.is_private(entry.inode));
            prop_assert_eq!(built.listing(entry.inode), tree.listing(entry.inode));
        }
    }

    /// The index is the one that is computed anew, whatever was asked and changed in between, in a tree and in those made
    /// from it.
    #[test]
    fn a_remembered_digest_is_right(
        operations in prop::collection::vec((operation(), stamp(), 0u8..8), 1..60),
    ) {
        let (mut tree, _) = start(Rules::Replicated);
        for (operation, stamp, step) in operations {
            attempt(&mut tree, &operation, stamp);
            match step {
                0..4 => prop_assert_eq!(tree.index(), uncached_index(&tree)),
                4 => tree.fill_holes(&mut Vec::new()),
                5 => {
                    let rows = tree.hashed_above(ROOT_INODE, usize::MAX);
                    let built = Tree::from_hashed(tree.root(), rows, Rules::Replicated, 0);
                    if let Ok(mut built) = built {
                        built.adopt(&mut tree);
                        // Both may write to the same files from here on.
                        attempt(&mut tree, &operation, stamp);
                        prop_assert_eq!(tree.index(), uncached_index(&tree));
                        tree = built;
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(tree.index(), uncached_index(&tree));
    }

    #[test]
    fn open_entries_keep_what_they_were(
        rules in rules(),
        pinned in prop::collection::btree_set(0u64..20, 1..6),
        operations in prop::collection::vec((operation(), stamp()), 1..40),
    ) {
        let (mut tree, _) = start(rules);
        let open: Vec<u64> = pinned.into_iter().filter(|inode| tree.pin(*inode, 0)).collect();
        let mut kept: BTreeMap<u64, Entry> = BTreeMap::new();
        for (operation, stamp) in operations {
            let before = entries(&tree);
            attempt(&mut tree, &operation, stamp);
            for inode in &open {
                if tree.entry(*inode).is_none() {
                    let last = before.get(inode).or_else(|| kept.get(inode)).expect("pinned").clone();
                    kept.insert(*inode, last);
                    prop_assert_eq!(tree.node(*inode), kept.get(inode));
                }
                prop_assert_eq!(tree.is_orphan(*inode), tree.entry(*inode).is_none());
            }
        }
        for inode in open {
            tree.unpin(inode, 0);
            prop_assert!(!tree.is_orphan(inode));
        }
    }
}
