//! Node numbers that the kernel sees.
//!
//! The 64-bit space is partitioned, not offset: inodes of the tree grow with the database version and may reach any
//! number below 2^63, so nothing else may live there.
//!
//! | top bits | meaning |
//! |---|---|
//! | `0` | inode of the tree itself; the root (0 in the tree) is 1 |
//! | `10` | plugin, index in the low bits |
//! | `11` | alias of a tree inode that does not fit above: 1, or 2^63 and up. Only hand-made databases have those |

use std::collections::HashMap;

use fuser::INodeNo;
use parking_lot::Mutex;
use pmxcfs_memdb::ROOT_INODE;

const NOT_PLAIN: u64 = 1 << 63;
const ALIAS: u64 = NOT_PLAIN | 1 << 62;

/// What a node number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// Entry of the tree, by its inode.
    Tree(u64),
    /// Plugin, by its index in the registry.
    Plugin(usize),
}

/// Translates between node numbers and what they stand for.
#[derive(Debug, Default)]
pub(super) struct InodeMap {
    /// Inodes that need an alias. Taken alone, never while another lock is taken inside.
    aliases: Mutex<Aliases>,
}

#[derive(Debug, Default)]
struct Aliases {
    inodes: Vec<u64>,
    index: HashMap<u64, u64>,
}

impl InodeMap {
    pub(super) fn number(&self, node: Node) -> INodeNo {
        INodeNo(match node {
            Node::Tree(ROOT_INODE) => INodeNo::ROOT.0,
            Node::Tree(inode) if inode != INodeNo::ROOT.0 && inode & NOT_PLAIN == 0 => inode,
            Node::Tree(inode) => self.alias(inode),
            Node::Plugin(index) => NOT_PLAIN | index as u64,
        })
    }

    /// `None` for a number that was never given out.
    pub(super) fn node(&self, number: INodeNo) -> Option<Node> {
        let number = number.0;
        if number == INodeNo::ROOT.0 {
            Some(Node::Tree(ROOT_INODE))
        } else if number & NOT_PLAIN == 0 {
            Some(Node::Tree(number))
        } else if number & ALIAS == ALIAS {
            let index = usize::try_from(number & !ALIAS).ok()?;
            self.aliases
                .lock()
                .inodes
                .get(index)
                .copied()
                .map(Node::Tree)
        } else {
            usize::try_from(number & !NOT_PLAIN).ok().map(Node::Plugin)
        }
    }

    fn alias(&self, inode: u64) -> u64 {
        let mut aliases = self.aliases.lock();
        let Aliases { inodes, index } = &mut *aliases;
        let position = *index.entry(inode).or_insert_with(|| {
            inodes.push(inode);
            inodes.len() as u64 - 1
        });
        ALIAS | position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_one_number_and_back() {
        let map = InodeMap::default();
        let nodes = [
            Node::Tree(0),
            Node::Tree(1),
            Node::Tree(2),
            Node::Tree(NOT_PLAIN - 1),
            Node::Tree(NOT_PLAIN),
            Node::Tree(u64::MAX),
            Node::Plugin(0),
            Node::Plugin(9),
        ];
        let numbers: Vec<_> = nodes.iter().map(|node| map.number(*node)).collect();
        for (node, number) in nodes.iter().zip(&numbers) {
            assert_eq!(map.node(*number), Some(*node));
            assert_eq!(map.number(*node), *number, "stable");
            assert_eq!(
                numbers.iter().filter(|other| *other == number).count(),
                1,
                "unique"
            );
        }
        assert_eq!(numbers[0], INodeNo::ROOT);
        assert_eq!(numbers[2], INodeNo(2));
        assert_eq!(map.node(INodeNo(ALIAS | 99)), None);
    }
}
