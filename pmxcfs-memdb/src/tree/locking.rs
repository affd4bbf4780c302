//! Cluster locks: directories in `priv/lock` that expire when nobody refreshes them.

use pmxcfs_api_types::{
    Result,
    path::{self, LOCK_DIRECTORY, is_lock_path},
};

use super::Tree;
use crate::{
    change::Change,
    checksum::Digest,
    locks::LockAge,
    operation::{Operation, Stamp},
};

impl Tree {
    /// Whether a path names a directory below `priv/lock`, at any depth: the ones that can be unlocked.
    pub fn is_lock_directory(&self, path: &[u8]) -> bool {
        self.lock_directory(path).is_some()
    }

    /// The expiry test: whether the lock at this path has been in the state with this checksum for more than 120 whole
    /// seconds of the monotonic clock. The age of a state that was not seen before begins now. False for a path that is no
    /// lock directory.
    pub fn lock_expired(&mut self, path: &[u8], checksum: &Digest, now_secs: u64) -> bool {
        let Some(inode) = self.lock_directory(path) else {
            return false;
        };
        let age = self.locks.test(inode, checksum, now_secs);
        if age == LockAge::Changed {
            tracing::warn!(
                path = %path.escape_ascii(),
                "lock was changed without being refreshed, its age starts anew"
            );
        }
        age == LockAge::Expired
    }

    /// Sets an mtime to 0 in local mode: deletes an expired lock; anything else gets the mtime 0 with the checks of
    /// [`Operation::SetMtime`].
    ///
    /// # Errors
    /// Those of the deletion or of setting the mtime; `Access` for a lock that has not expired.
    pub fn unlock_or_touch(
        &mut self,
        path: &[u8],
        stamp: Stamp,
        now_secs: u64,
        changes: &mut Vec<Change>,
    ) -> Result<u32> {
        let path = bytes::Bytes::copy_from_slice(path);
        let checksum = self
            .lock_directory(&path)
            .map(|inode| self.nodes[&inode].entry().checksum());
        let expired = checksum.is_some_and(|sum| self.lock_expired(&path, &sum, now_secs));
        let operation = if expired {
            Operation::Delete { path }
        } else {
            Operation::SetMtime { path, mtime: 0 }
        };
        self.apply(&operation, stamp, now_secs, changes)
    }

    /// Whether a path names an entry directly in `priv/lock`. Literal, as peers compare it.
    pub(super) fn is_direct_lock_path(path: &[u8]) -> bool {
        path::split(path).0 == LOCK_DIRECTORY
    }

    /// A lock was taken or refreshed.
    pub(super) fn reset_lock(&mut self, inode: u64, now_secs: u64) {
        let checksum = self.nodes[&inode].entry().checksum();
        self.locks.reset(inode, checksum, now_secs);
    }

    fn lock_directory(&self, path: &[u8]) -> Option<u64> {
        if !is_lock_path(path) {
            return None;
        }
        let inode = self.resolve(path)?;
        self.directory(inode).map(|_| inode)
    }
}
