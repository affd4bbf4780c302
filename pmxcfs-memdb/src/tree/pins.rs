//! Which entries are open, and those of them that have left the tree.

use std::collections::HashMap;

use super::Node;
use crate::entry::Entry;

#[derive(Debug, Default)]
pub(super) struct Handles {
    /// How often each inode is open.
    pub(super) pins: HashMap<u64, u64>,
    /// Entries that are open and no longer in the tree.
    pub(super) orphans: HashMap<u64, Orphan>,
    /// How many trees this one has followed, see [`Tree::epoch`](crate::Tree::epoch).
    pub(super) epoch: u64,
    /// Inodes that are open and were given to another entry, and in which epoch.
    pub(super) reused: HashMap<u64, u64>,
}

#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) entry: Entry,
    is_private: bool,
}

impl Handles {
    pub(super) fn orphan(&self, inode: u64) -> Option<&Entry> {
        Some(&self.orphans.get(&inode)?.entry)
    }

    pub(super) fn is_private(&self, inode: u64) -> bool {
        self.orphans
            .get(&inode)
            .is_none_or(|orphan| orphan.is_private)
    }

    /// Keeps an entry that leaves the tree, if somebody has it open.
    pub(super) fn bury(&mut self, node: Node, is_private: bool) {
        if self.pins.contains_key(&node.entry().inode) {
            let entry = node.into_entry();
            let orphan = Orphan { entry, is_private };
            self.orphans.insert(orphan.entry.inode, orphan);
        }
    }
}
