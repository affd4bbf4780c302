//! Somebody who must know what the cluster does to the tree of this node.
//!
//! Programs on this node hold files open, and the kernel caches attributes, while other nodes remove, rename and replace
//! entries. Whoever serves those programs sees each change of the cluster under the lock of the tree, before and after it,
//! and does outside of the lock what may take a system call.

use pmxcfs_api_types::FsError;

use crate::{Change, Operation, Tree};

/// A change that the cluster makes to the tree of this node.
#[derive(Debug)]
pub enum ClusterChange<'a> {
    /// An operation, delivered to all members.
    Operation {
        /// What it does.
        operation: &'a Operation,
        /// A caller on this node asked for it and gets its answer.
        is_own: bool,
    },
    /// A synchronisation replaces the tree by the leader's.
    Replacement {
        /// Inodes that differ, the lost ones included.
        touched: &'a [u64],
        /// Inodes that the leader's tree lacks.
        lost: &'a [u64],
    },
}

/// Work for the time after the change, when nothing is locked any more.
pub type AfterUnlock = Box<dyn FnOnce()>;

/// Sees every change of the cluster. Both methods are called with the tree locked, so they must not wait.
pub trait Observer: Send + Sync {
    /// The change is about to be made. Returns the inodes that were pinned for it, which [`after`](Self::after) gets.
    fn before(&self, tree: &mut Tree, change: &ClusterChange<'_>) -> Vec<u64>;

    /// The change was made, or it failed. `changes` are the effects of an operation; a refused one may have some, see
    /// [`Tree::apply`].
    fn after(
        &self,
        tree: &mut Tree,
        change: &ClusterChange<'_>,
        pinned: Vec<u64>,
        changes: &[Change],
        result: Result<(), FsError>,
    ) -> Option<AfterUnlock>;
}
