//! What the kernel of this host knows, for operations that come from other nodes.
//!
//! A removal through this mount keeps its victim by itself; one by another node needs the same, or a reader that has just
//! looked a name up would fail when a peer replaces the file. And the kernel believes attributes for a second, unless it is
//! told that they have changed.

use std::sync::Arc;

use fuser::Notifier;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{AfterUnlock, Change, ClusterChange, Observer, Operation, Tree};

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
    /// The kernel can be told something from now on.
    pub(super) fn attach(&self, notifier: Notifier) {
        // There is one session.
        let _first = self.0.notifier.set(notifier);
    }

    /// Pins an entry that is about to be removed, if the kernel knows it and nobody has pinned it for that reason.
    fn keep(&self, tree: &mut Tree, inode: u64) -> bool {
        tree.entry(inode).is_some() && self.0.lookups.begin_removal(inode) && tree.pin(inode)
    }

    /// Entries were renamed or replaced: for as long as the kernel may take their names for granted, who opens one is made to
    /// look for it again.
    fn distrust_names(&self, inodes: &[u64]) {
        let known = |inode: &&u64| self.0.lookups.is_known(**inode);
        self.0.walks.distrust(inodes.iter().filter(known).copied());
    }

    /// Makes the kernel ask anew for the attributes of entries that have changed, so that the next `stat` shows them. One
    /// system call for each entry that it knows. Call when the change can be seen, with nothing locked.
    fn tell_changed(&self, inodes: &[u64]) {
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
}

impl Observer for KernelReferences {
    fn before(&self, tree: &mut Tree, change: &ClusterChange<'_>) -> Vec<u64> {
        match change {
            ClusterChange::Operation {
                operation: Operation::Delete { path } | Operation::Rename { to: path, .. },
                ..
            } => {
                let victim = tree.lookup(path).map(|entry| entry.inode);
                let kept = victim.filter(|inode| self.keep(tree, *inode));
                kept.into_iter().collect()
            }
            ClusterChange::Operation { .. } => Vec::new(),
            ClusterChange::Replacement { lost, .. } => {
                let lost = lost.iter().copied();
                lost.filter(|inode| self.keep(tree, *inode)).collect()
            }
        }
    }

    fn after(
        &self,
        tree: &mut Tree,
        change: &ClusterChange<'_>,
        pinned: Vec<u64>,
        changes: &[Change],
        result: Result<(), FsError>,
    ) -> Option<AfterUnlock> {
        if result.is_err() {
            for inode in pinned {
                self.0.lookups.cancel_removal(inode);
                tree.unpin(inode);
            }
        }
        let (changed, has_new_names) = match change {
            ClusterChange::Operation { is_own: true, .. } => return None,
            ClusterChange::Operation { operation, .. } => {
                let changed = changes.iter().map(Change::inode).collect();
                (changed, matches!(operation, Operation::Rename { .. }))
            }
            ClusterChange::Replacement { .. } if result.is_err() => return None,
            ClusterChange::Replacement { touched, .. } => (touched.to_vec(), true),
        };
        let references = self.clone();
        Some(Box::new(move || {
            if has_new_names {
                references.distrust_names(&changed);
            }
            references.tell_changed(&changed);
        }))
    }
}
