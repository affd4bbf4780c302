//! What the kernel of this host knows, for operations that come from other nodes.
//!
//! A removal through this mount keeps its victim by itself; one by another node needs the same, or a reader that has just
//! looked a name up would fail when a peer replaces the file. And the kernel believes attributes for a second, unless it is
//! told that they have changed.

use std::sync::Arc;

use fuser::Notifier;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{Operation, Tree};

use super::inodes::Node;

use super::shared::Shared;

/// An offset that stands for the attributes alone. Forgetting them takes no lock in the kernel that a request could hold.
const ATTRIBUTES: i64 = -1;

/// Keeps entries that are removed while the kernel knows them, and tells it of changes. Cheap to clone.
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

    /// [`MemDb::replace_tree`](pmxcfs_memdb::MemDb::replace_tree) with all that operations do: what the kernel knows and the new
    /// tree lacks is kept, and the kernel asks anew for what is different.
    ///
    /// # Errors
    /// As there.
    pub fn replace_tree(&self, new: Tree, touched: &[u64]) -> Result<(), FsError> {
        let Shared { db, lookups, .. } = &*self.0;
        let lost = touched.iter().filter(|inode| new.entry(**inode).is_none());
        let (kept, _nothing_recorded) = db.change(|tree, _| {
            let is_kept = |inode: &u64| {
                tree.entry(*inode).is_some() && lookups.begin_removal(*inode) && tree.pin(*inode)
            };
            lost.copied().filter(is_kept).collect::<Vec<u64>>()
        });
        if let Err(error) = db.replace_tree(new, touched) {
            db.change(|tree, _| {
                for inode in kept {
                    self.release_victim(tree, inode);
                }
            });
            return Err(error);
        }
        self.distrust_names(touched);
        self.tell_changed(touched);
        Ok(())
    }

    /// The kernel can be told something from now on.
    pub(super) fn attach(&self, notifier: Notifier) {
        // There is one session.
        let _first = self.0.notifier.set(notifier);
    }

    /// Entries were renamed or replaced: for as long as the kernel may take their names for granted, who opens one is made to
    /// look for it again.
    pub fn distrust_names(&self, inodes: &[u64]) {
        let known = |inode: &&u64| self.0.lookups.is_known(**inode);
        self.0.walks.distrust(inodes.iter().filter(known).copied());
    }

    /// Makes the kernel ask anew for the attributes of entries that have changed, so that the next `stat` shows them. One
    /// system call for each entry that it knows. Call when the change can be seen, with nothing locked.
    pub fn tell_changed(&self, inodes: &[u64]) {
        let Some(notifier) = self.0.notifier.get() else {
            return;
        };
        for inode in inodes {
            if self.0.lookups.is_known(*inode) {
                let number = self.0.inodes.number(Node::Tree(*inode));
                // If it has forgotten the entry by now, or is unmounting, there is nobody to tell.
                let _told = notifier.inval_inode(number, ATTRIBUTES, 0);
            }
        }
    }

    /// The entry was not removed after all.
    pub fn release_victim(&self, tree: &mut Tree, inode: u64) {
        self.0.lookups.cancel_removal(inode);
        tree.unpin(inode);
    }
}
