//! Which entries are open, and those of them that have left the tree.

use hashbrown::HashMap;

use super::Node;
use crate::entry::Entry;

#[derive(Debug, Default)]
pub(super) struct Handles {
    /// How often each inode is open, for each user who has opened it.
    pub(super) pins: HashMap<u64, Vec<Pins>>,
    /// Entries that are open and no longer in the tree.
    pub(super) orphans: HashMap<u64, Orphan>,
    /// How many trees this one has followed, see [`Tree::epoch`](crate::Tree::epoch).
    pub(super) epoch: u64,
    /// Inodes that are open and were given to another entry, and in which epoch.
    pub(super) reused: HashMap<u64, u64>,
    /// Bytes of the orphans that a user has open.
    pub(super) kept: HashMap<u32, u64>,
}

/// How often a user has an inode open.
#[derive(Debug)]
pub(super) struct Pins {
    uid: u32,
    count: u64,
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
            self.charge(orphan.entry.inode, 0, orphan.entry.size);
            self.orphans.insert(orphan.entry.inode, orphan);
        }
    }

    /// Keeps an entry that a former process has kept.
    pub(super) fn restore(&mut self, entry: Entry, is_private: bool) {
        let orphan = Orphan { entry, is_private };
        self.orphans.insert(orphan.entry.inode, orphan);
    }

    /// A user opens an entry.
    pub(super) fn pin(&mut self, inode: u64, uid: u32) {
        let users = self.pins.entry(inode).or_default();
        if let Some(pins) = users.iter_mut().find(|pins| pins.uid == uid) {
            pins.count += 1;
            return;
        }
        users.push(Pins { uid, count: 1 });
        if let Some(orphan) = self.orphans.get(&inode) {
            charge(&mut self.kept, uid, 0, orphan.entry.size);
        }
    }

    /// A user closes an entry. The last one drops an orphan.
    pub(super) fn unpin(&mut self, inode: u64, uid: u32) {
        let Some(users) = self.pins.get_mut(&inode) else {
            return;
        };
        let Some(at) = users.iter().position(|pins| pins.uid == uid) else {
            return;
        };
        users[at].count -= 1;
        if users[at].count > 0 {
            return;
        }
        users.swap_remove(at);
        let is_last = users.is_empty();
        if let Some(orphan) = self.orphans.get(&inode) {
            charge(&mut self.kept, uid, orphan.entry.size, 0);
        }
        if is_last {
            self.pins.remove(&inode);
            self.orphans.remove(&inode);
            self.reused.remove(&inode);
        }
    }

    /// An orphan has got another size, or has become one or none.
    pub(super) fn charge(&mut self, inode: u64, former_size: u32, size: u32) {
        for pins in self.pins.get(&inode).into_iter().flatten() {
            charge(&mut self.kept, pins.uid, former_size, size);
        }
    }
}

fn charge(kept: &mut HashMap<u32, u64>, uid: u32, former_size: u32, size: u32) {
    let bytes = kept.entry(uid).or_default();
    *bytes = (*bytes + u64::from(size)).saturating_sub(u64::from(former_size));
    if *bytes == 0 {
        kept.remove(&uid);
    }
}
