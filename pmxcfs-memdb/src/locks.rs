//! Ages of cluster locks.
//!
//! A lock is a directory in `priv/lock`. How long it has gone without a refresh is known to this process only: it is
//! neither stored nor replicated. Ages are counted in whole seconds of a monotonic clock, which the caller reads.

use std::collections::HashMap;

use pmxcfs_api_types::limits::LOCK_TIMEOUT_SECS;

use crate::checksum::Digest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LockRecord {
    checksum: Digest,
    seen_secs: u64,
}

/// When each lock directory was first seen in its present state, by inode.
#[derive(Debug, Clone, Default)]
pub(crate) struct LockTable {
    records: HashMap<u64, LockRecord>,
}

/// Result of an expiry test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockAge {
    /// It was not known, and is young from now on.
    New,
    /// It was known in another state, and is young from now on.
    Changed,
    /// It is known and not too old.
    Fresh,
    /// It has not been refreshed for longer than a lock may last.
    Expired,
}

impl LockTable {
    /// A lock was taken or refreshed.
    pub(crate) fn reset(&mut self, inode: u64, checksum: Digest, now_secs: u64) {
        self.records.insert(
            inode,
            LockRecord {
                checksum,
                seen_secs: now_secs,
            },
        );
    }

    /// A lock is gone.
    pub(crate) fn forget(&mut self, inode: u64) {
        self.records.remove(&inode);
    }

    /// The expiry test. It makes a record for a lock in a state that it has not seen before.
    pub(crate) fn test(&mut self, inode: u64, checksum: &Digest, now_secs: u64) -> LockAge {
        let age = match self.records.get(&inode) {
            None => LockAge::New,
            Some(record) if record.checksum != *checksum => LockAge::Changed,
            Some(record) if now_secs.saturating_sub(record.seen_secs) > LOCK_TIMEOUT_SECS => {
                return LockAge::Expired;
            }
            Some(_) => return LockAge::Fresh,
        };
        self.reset(inode, *checksum, now_secs);
        age
    }

    /// Takes over the ages of locks that another table knows in the same state.
    pub(crate) fn adopt(&mut self, former: &Self) {
        for (inode, record) in &mut self.records {
            if let Some(known) = former.records.get(inode)
                && known.checksum == record.checksum
            {
                record.seen_secs = known.seen_secs;
            }
        }
    }
}
