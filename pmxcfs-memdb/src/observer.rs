//! An observer of the changes that other nodes make to the tree of this node.
//!
//! Programs on this node hold files open, and the kernel remembers names and attributes, while other nodes remove, rename and
//! replace entries. The filesystem therefore sees each change under the lock of the tree, and makes its system calls when the
//! lock is free. A change that this node asked for is seen by its [`Caller`](crate::Caller).

use std::collections::BTreeSet;

use crate::{Change, Tree};

/// Sees every change that nobody on this node has asked for. Called with the tree locked, so it must not wait.
pub trait Observer: Send + Sync {
    /// An operation was delivered. `changes` are its effects; a refused one may have some, see
    /// [`Tree::apply`](crate::Tree::apply).
    fn applied(&self, changes: &[Change]) -> Vec<u64>;

    /// A synchronisation is about to store the leader's tree `new` in place of `present`.
    fn replacing(&self, present: &Tree, new: &Tree);

    /// A synchronisation has replaced the tree by the leader's `tree`. `touched` are the inodes that differ or are gone.
    fn replaced(&self, tree: &Tree, touched: &BTreeSet<u64>) -> Vec<u64>;

    /// Nothing is locked any more. `shown` is what the observer has given, its ids for what shows the change.
    fn unlocked(&self, shown: &[u64]);
}
