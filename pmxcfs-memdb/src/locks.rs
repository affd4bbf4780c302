//! Ages of cluster locks.
//!
//! A lock is a directory in `priv/lock`. How long it has gone without a refresh is known to this process only: it is
//! neither stored nor replicated. Ages are counted in whole seconds of a monotonic clock, which the caller reads.

use std::collections::HashMap;

use pmxcfs_api_types::limits::LOCK_TIMEOUT_SECS;

use crate::checksum::Digest;

/// For each lock directory, by inode: the state in which it was last seen, and since when it is in that state.
#[derive(Debug, Clone, Default)]
pub(crate) struct LockTable(HashMap<u64, (Digest, u64)>);

/// Result of an expiry test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockAge {
    /// It is not too old, or was not known and is young from now on.
    Young,
    /// It was known in another state, and is young from now on.
    Changed,
    /// It has not been refreshed for longer than a lock may last.
    Expired,
}

impl LockTable {
    /// A lock was taken or refreshed.
    pub(crate) fn reset(&mut self, inode: u64, checksum: Digest, now_secs: u64) {
        self.0.insert(inode, (checksum, now_secs));
    }

    /// A lock is gone.
    pub(crate) fn forget(&mut self, inode: u64) {
        self.0.remove(&inode);
    }

    /// The expiry test. It remembers the state of a lock.
    pub(crate) fn test(&mut self, inode: u64, checksum: &Digest, now_secs: u64) -> LockAge {
        let (known, since) = *self.0.entry(inode).or_insert((*checksum, now_secs));
        if known != *checksum {
            self.reset(inode, *checksum, now_secs);
            return LockAge::Changed;
        }
        match now_secs.saturating_sub(since) > LOCK_TIMEOUT_SECS {
            true => LockAge::Expired,
            false => LockAge::Young,
        }
    }

    /// Takes over the ages of locks that another table knows in the same state.
    pub(crate) fn adopt(&mut self, former: &Self) {
        for (inode, (checksum, since)) in &mut self.0 {
            if let Some((known, known_since)) = former.0.get(inode)
                && known == checksum
            {
                *since = *known_since;
            }
        }
    }
}
