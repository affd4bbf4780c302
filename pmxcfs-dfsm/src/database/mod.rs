//! The database group: the tree behind `/etc/pve` on all nodes.
//!
//! `wire` holds the formats, `apply` what operations do when they are delivered, `request` what is sent for local ones,
//! `leader` the choice of the leader and what it sends, `update` how a follower becomes equal to it.

mod apply;
mod leader;
mod request;
mod update;
pub mod wire;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{Change, Digest, Entry, Index, Operation, Stamp, Tree};

use crate::{
    app::{Application, Context, Delivery, Exchange, Outcome, Prepared, SyncError},
    core::{MemberId, RequestId},
};
use update::Following;

/// The tree with its store.
pub trait TreeStore {
    /// Runs a change of the tree, and records what it did, as one step that no reader sees half.
    fn change<R>(&mut self, call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R) -> R;

    /// Applies a replicated operation. `request` is the request of this node that it carries out, if it is one: whoever made
    /// it may want to see the tree at this very moment, before the next operation changes it again.
    ///
    /// # Errors
    /// As [`Tree::apply`], the same on all nodes.
    fn apply(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        _request: Option<RequestId>,
    ) -> Result<u32, FsError> {
        self.change(|tree, changes| tree.apply(operation, stamp, now_secs, changes))
    }

    /// Makes another tree the present one, in one transaction that is durable when this returns. `touched` are the inodes
    /// that differ from before or are gone. The new tree is to [`adopt`](Tree::adopt) the former one.
    ///
    /// # Errors
    /// Why the store could not take it; the former tree stays then.
    fn replace(&mut self, tree: Tree, touched: &[u64]) -> Result<(), String>;

    /// Whether something that was applied could not be recorded.
    fn is_failed(&self) -> bool;
}

/// What processes of this node want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseRequest {
    /// An operation on the tree, checked and sent to all members; answered when it was applied here.
    Apply(Operation),
}

/// What the rest of the daemon must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseNotice {
    /// `corosync.conf` changed: bring the host's copy up to date. Not to be done while events wait.
    CorosyncConf {
        /// This node made the change: make corosync load it.
        reload: bool,
    },
    /// The tree was replaced by the leader's.
    Replaced {
        /// Entries of the former tree that the leader did not have, or had in an older version: what a side of a
        /// partition changed, and lost. To be kept for the operator.
        discarded: Vec<Entry>,
    },
}

/// The application of the database group.
#[derive(Debug)]
pub struct Database<S> {
    store: S,
    /// What this member announced in the exchange under way.
    announced: Option<(Bytes, Index)>,
    following: Option<Following>,
    /// Commits in a row that did not lead to the leader's data.
    failed_commit_count: u32,
}

impl<S: TreeStore> Database<S> {
    /// Replicates a tree.
    pub const fn new(store: S) -> Self {
        Self {
            store,
            announced: None,
            following: None,
            failed_commit_count: 0,
        }
    }

    /// The tree with its store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The tree with its store.
    pub const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }
}

impl<S: TreeStore> Application for Database<S> {
    type Request = DatabaseRequest;
    type Notice = DatabaseNotice;

    const PROTOCOL: u32 = 1;
    const NEEDS_QUORUM: bool = true;
    const IS_VERIFIED: bool = true;

    fn prepare(
        &mut self,
        request: DatabaseRequest,
        _context: &mut Context<'_, DatabaseNotice>,
    ) -> Result<Prepared, FsError> {
        let DatabaseRequest::Apply(operation) = request;
        self.prepare_operation(operation)
    }

    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_, DatabaseNotice>,
    ) -> Outcome {
        self.apply_message(delivery, context)
    }

    fn state(&mut self) -> Result<Bytes, SyncError> {
        self.announce()
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        _context: &mut Context<'_, DatabaseNotice>,
    ) -> Result<Exchange, SyncError> {
        self.decide(states, own)
    }

    fn update(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        self.record(payload)
    }

    fn commit(&mut self, context: &mut Context<'_, DatabaseNotice>) -> Result<(), SyncError> {
        self.follow(context)
    }

    fn discard(&mut self) {
        self.announced = None;
        self.following = None;
    }

    fn checksum(&mut self) -> Digest {
        let snapshot = self.store.change(|tree, _changes| tree.snapshot());
        snapshot.checksum()
    }

    fn members_changed(
        &mut self,
        _members: &[MemberId],
        _context: &mut Context<'_, DatabaseNotice>,
    ) {
    }

    fn became_synced(&mut self, _context: &mut Context<'_, DatabaseNotice>) {}
}
