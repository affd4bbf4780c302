//! Which entries the kernel knows, until it forgets them.
//!
//! A path walk looks a name up first and opens what it found a moment later. If the entry is removed in between, the open
//! must still succeed, as on any filesystem: otherwise whoever replaces a file by rename makes its readers fail. So an
//! entry that the kernel knows is pinned when it is removed, and let go when the kernel forgets it. The kernel is asked to
//! walk the path again first (see the module `walks`), but the file may be replaced during that walk, too.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Requests run on a few threads; shards keep them out of each other's way.
const SHARD_COUNT: usize = 16;

#[derive(Debug, Default)]
struct Known {
    /// Replies that named the entry and that the kernel has not taken back.
    count: u64,
    /// The entry is pinned in the tree until the kernel forgets it.
    pinned: bool,
}

/// Lookup counts by tree inode.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// Leaf locks, taken while the tree is locked: an entry must be counted before it can be removed.
    shards: [Mutex<HashMap<u64, Known>>; SHARD_COUNT],
}

impl Lookups {
    fn shard(&self, inode: u64) -> &Mutex<HashMap<u64, Known>> {
        let index = usize::try_from(inode % SHARD_COUNT as u64).expect("a small number");
        &self.shards[index]
    }

    /// A reply is about to name the entry. Call with the tree locked.
    pub(super) fn add(&self, inode: u64) {
        self.shard(inode).lock().entry(inode).or_default().count += 1;
    }

    /// Whether the kernel knows the entry.
    pub(super) fn is_known(&self, inode: u64) -> bool {
        self.shard(inode).lock().contains_key(&inode)
    }

    /// Whether the entry was removed and is kept for the kernel.
    pub(super) fn is_pinned(&self, inode: u64) -> bool {
        let shard = self.shard(inode).lock();
        shard.get(&inode).is_some_and(|known| known.pinned)
    }

    /// The entry is about to be removed. True if the kernel knows it and it has to be pinned now.
    pub(super) fn begin_removal(&self, inode: u64) -> bool {
        match self.shard(inode).lock().get_mut(&inode) {
            Some(known) if !known.pinned => {
                known.pinned = true;
                true
            }
            _ => false,
        }
    }

    /// The entry was not removed after all.
    pub(super) fn cancel_removal(&self, inode: u64) {
        if let Some(known) = self.shard(inode).lock().get_mut(&inode) {
            known.pinned = false;
        }
    }

    /// The kernel takes back `count` replies. True if it has forgotten the entry now and a pin ends.
    pub(super) fn forget(&self, inode: u64, count: u64) -> bool {
        let mut shard = self.shard(inode).lock();
        let Some(known) = shard.get_mut(&inode) else {
            return false;
        };
        known.count = known.count.saturating_sub(count);
        if known.count > 0 {
            return false;
        }
        shard.remove(&inode).is_some_and(|known| known.pinned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_ends_when_the_kernel_has_taken_back_every_reply() {
        let lookups = Lookups::default();
        assert!(!lookups.begin_removal(7), "not known");
        lookups.add(7);
        lookups.add(7);
        assert!(lookups.begin_removal(7));
        assert!(!lookups.begin_removal(7), "pinned once");
        assert!(!lookups.forget(7, 1));
        assert!(lookups.forget(7, 1));
        assert!(!lookups.forget(7, 1), "unknown by now");
    }

    #[test]
    fn a_removal_that_failed_leaves_no_pin() {
        let lookups = Lookups::default();
        lookups.add(23);
        assert!(lookups.begin_removal(23));
        lookups.cancel_removal(23);
        assert!(!lookups.forget(23, 1));
    }
}
