//! What the kernel of this host knows, for operations that come from other nodes.
//!
//! A removal through this mount keeps its victim by itself; one by another node needs the same, or a reader that has just
//! looked a name up would fail when a peer replaces the file.

use std::sync::Arc;

use pmxcfs_memdb::{Operation, Tree};

use super::shared::Shared;

/// Keeps entries that are removed while the kernel knows them. Cheap to clone.
#[derive(Clone)]
pub struct KernelReferences(pub(super) Arc<Shared>);

impl std::fmt::Debug for KernelReferences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelReferences").finish_non_exhaustive()
    }
}

impl KernelReferences {
    /// Pins the entry that an operation is about to remove, if the kernel knows it and nobody has pinned it for that
    /// reason. Returns what was pinned.
    #[must_use]
    pub fn keep_victim(&self, tree: &mut Tree, operation: &Operation) -> Option<u64> {
        let (Operation::Delete { path } | Operation::Rename { to: path, .. }) = operation else {
            return None;
        };
        let inode = tree.lookup(path)?.inode;
        if !self.0.lookups.begin_removal(inode) {
            return None;
        }
        tree.pin(inode);
        Some(inode)
    }

    /// The entry was not removed after all.
    pub fn release_victim(&self, tree: &mut Tree, inode: u64) {
        self.0.lookups.cancel_removal(inode);
        tree.unpin(inode);
    }
}
