//! The tree that is replicated, with what keeps it.

use std::collections::BTreeSet;

use pmxcfs_memdb::store::Ticket;
use pmxcfs_memdb::{Caller, Change, Delivered, Operation, Reply, Stamp, Tree};

/// The tree with its store.
pub trait TreeStore {
    /// Looks at the tree. To be short: changes wait for it, and readers for those.
    fn read<R>(&self, call: impl FnOnce(&Tree) -> R) -> R;

    /// Changes the tree and records the changes, as one step that no reader sees half. A caller is answered when the record
    /// of the ticket is safe.
    fn change<R>(
        &mut self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>);

    /// Applies a delivered operation. `caller` asked for it on this node, and answers from the tree before the next
    /// operation changes it again.
    fn deliver(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        caller: Option<Box<dyn Caller>>,
    ) -> Delivered;

    /// Gives a caller its answer once the record is safe. `None` stands for nothing to record.
    fn acknowledge(&mut self, ticket: Option<Ticket>, reply: Reply);

    /// Makes another tree the present one, in one transaction that is durable when this returns. `touched` are the inodes
    /// that differ from before or are gone, without the root, `leader` the node whose tree it is. The new tree is to
    /// [`adopt`](Tree::adopt) the former one.
    ///
    /// # Errors
    /// Why the store could not take it; the former tree stays then.
    fn replace(&mut self, tree: Tree, touched: &BTreeSet<u64>, leader: u32) -> Result<(), String>;

    /// Whether something that was applied could not be recorded.
    fn is_failed(&self) -> bool;
}
