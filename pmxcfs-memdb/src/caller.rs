//! A caller: a wish to change the tree, on its way to its answer.
//!
//! A caller is the one thing that travels on the way of a write, alone or in a cluster: from the request that makes it, to
//! the tree that it is planned against, to the moment when its own operation has been applied. There it turns the tree into
//! a [`Reply`], under the lock of the change, so that it sees its own operation and no later one. The reply
//! waits until the crash journal has the operation.

use pmxcfs_api_types::{FsError, Result};

use crate::store::Asker;
use crate::{Change, Operation, Tree};

/// A caller's wish, in terms of the tree that it meets.
#[derive(Debug)]
pub enum Plan {
    /// An operation on the tree, recorded and replicated.
    Apply(Operation),
    /// An operation on an inode that only open handles can still see: memory only. The operation's path does not count.
    Orphan(u64, Operation),
}

/// Gives the caller its answer: the one that [`Caller::answer`] has made, or an error if the change could not be recorded.
/// May run on any thread, so it must wait for nothing.
pub type Reply = Box<dyn FnOnce(Result<()>) + Send>;

/// A wish to change the tree. Either [`refuse`](Self::refuse) is called, or [`plan`](Self::plan) and then
/// [`answer`](Self::answer), possibly on different threads.
pub trait Caller: Send {
    /// Says what to do, from the tree as it is now.
    ///
    /// # Errors
    /// The reason why nothing can be done; it becomes the result.
    fn plan(&mut self, tree: &mut Tree) -> Result<Plan>;

    /// Turns the result, and the tree right after the change, into the answer. `changes` are the effects of the operation;
    /// a refused one may have some, see [`Tree::apply`].
    fn answer(self: Box<Self>, tree: &mut Tree, changes: &[Change], result: Result<u32>) -> Reply;

    /// The program that asks, if it does so through the mount of this node. For the history.
    fn asker(&self) -> Option<Asker> {
        None
    }

    /// Nothing was or will be done.
    fn refuse(self: Box<Self>, error: FsError);
}

/// Takes callers to wherever the tree is changed: into the tree itself on a node on its own, to all members in a cluster.
/// Returns at once.
pub type Submit = Box<dyn Fn(Box<dyn Caller>) + Send + Sync>;
