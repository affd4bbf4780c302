//! The database group: the tree behind `/etc/pve` on all nodes.
//!
//! `wire` holds the formats, `request` makes the messages for a local operation, `apply` carries out delivered ones, `leader`
//! chooses the leader and makes its updates, `update` builds a follower's new tree from them.
//!
//! A [`Caller`] on this node is planned against the tree, waits under the id of its request while its message travels, and
//! turns the tree into its answer under the very lock under which its operation is applied. So it sees its own operation
//! and no later one. Answers are given when all messages that came in together are handled, so that one write to the crash
//! journal serves all of them.

mod apply;
mod leader;
mod request;
mod store;
mod update;
pub mod wire;

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::{Discarded, Ticket};
use pmxcfs_memdb::{Caller, Change, Digest, Entry, Index, Plan, Reply, Tree};

use crate::{
    app::{Application, Context, Delivery, Exchange, Outgoing, SyncError, Verdict},
    core::{MemberId, RequestId},
};
pub use store::TreeStore;
use update::{Built, Following};
use wire::UpdateMessage;

/// After this many commits in a row that failed, a member stays out: each round makes all members exchange states.
const FAILED_COMMIT_LIMIT: u32 = 3;

/// News for the rest of the daemon. To be taken in without waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseNotice {
    /// `corosync.conf` changed: bring the host's copy up to date.
    CorosyncConf {
        /// This node made the change: make corosync load it.
        reload: bool,
    },
    /// The tree was replaced by the leader's.
    Replaced {
        /// Entries of the former tree whose content the leader's tree does not have at their path: one side of a partition
        /// changed them, and lost. To be kept for the operator.
        discarded: Vec<Discarded>,
    },
}

/// Takes notices.
pub type NoticeSink = Box<dyn FnMut(DatabaseNotice) + Send>;

/// The application of the database group.
pub struct Database<S> {
    store: S,
    notice: NoticeSink,
    /// Callers between the multicast of their operation and its delivery.
    callers: HashMap<RequestId, Box<dyn Caller>>,
    /// Answers for the next [`flush`](Application::flush).
    answers: Vec<(Reply, Option<Ticket>)>,
    /// The own announcement in the exchange under way.
    announced: Option<Index>,
    following: Option<Following>,
    /// Entries that others lack, as the exchange found them.
    updates: std::vec::IntoIter<Entry>,
    /// Commits in a row that did not lead to the leader's data.
    failed_commit_count: u32,
}

impl<S: TreeStore> Database<S> {
    /// Replicates a tree.
    pub fn new(store: S, notice: NoticeSink) -> Self {
        Self {
            store,
            notice,
            callers: HashMap::new(),
            answers: Vec::new(),
            announced: None,
            following: None,
            updates: Vec::new().into_iter(),
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

    fn commit_failed(&mut self, reason: String) -> SyncError {
        self.failed_commit_count += 1;
        if self.failed_commit_count >= FAILED_COMMIT_LIMIT {
            self.failed_commit_count = 0;
            return SyncError::Store(reason);
        }
        SyncError::Inconsistent(reason)
    }
}

impl<S: TreeStore> Application for Database<S> {
    type Request = Box<dyn Caller>;

    const PROTOCOL: u32 = 1;
    const IS_EXACT: bool = true;

    fn prepare(
        &mut self,
        id: RequestId,
        mut caller: Box<dyn Caller>,
        _context: &mut Context<'_>,
    ) -> Vec<Outgoing> {
        let is_failed = self.store.is_failed();
        let (planned, ticket) = self.store.change(|tree, changes| {
            let result = match caller.plan(tree) {
                Ok(Plan::Orphan(inode, operation)) => tree.change_orphan(inode, &operation),
                Ok(Plan::Apply(_)) if is_failed => Err(FsError::Io),
                Ok(Plan::Apply(operation)) => match request::messages(tree, operation) {
                    Ok(messages) if messages.is_empty() => Ok(0),
                    Ok(messages) => return Ok((caller, messages)),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            Err(caller.answer(tree, changes, result))
        });
        match planned {
            Ok((caller, messages)) => {
                self.callers.insert(id, caller);
                messages
            }
            Err(reply) => {
                self.answers.push((reply, ticket));
                Vec::new()
            }
        }
    }

    fn refuse(caller: Box<dyn Caller>, error: FsError) {
        caller.refuse(error);
    }

    fn fail(&mut self, id: RequestId, error: FsError) {
        if let Some(caller) = self.callers.remove(&id) {
            let answer = |tree: &mut Tree, changes: &mut Vec<Change>| {
                caller.answer(tree, changes, Err(error))
            };
            self.answers.push(self.store.change(answer));
        }
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>) -> Verdict {
        self.apply_message(delivery, context)
    }

    fn state(&mut self) -> Result<Bytes, SyncError> {
        self.announce()
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        _context: &mut Context<'_>,
    ) -> Result<Exchange, SyncError> {
        self.decide(states, own)
    }

    fn next_update(&mut self) -> Option<Bytes> {
        let entry = self.updates.next()?;
        Some(UpdateMessage { entry }.encode())
    }

    fn update(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        match &mut self.following {
            Some(following) => following.record(payload),
            None => Err(SyncError::Inconsistent(
                "update without an exchange".to_owned(),
            )),
        }
    }

    /// Replaces the tree, if the result has the leader's index byte for byte.
    fn commit(&mut self, context: &mut Context<'_>) -> Result<(), SyncError> {
        let Some(following) = self.following.take() else {
            return Err(SyncError::Inconsistent(
                "end of an update without an exchange".to_owned(),
            ));
        };
        if self.store.is_failed() {
            return Err(SyncError::Store("the local store has failed".to_owned()));
        }
        let now_secs = context.now.monotonic_ms / 1000;
        let leader_node = following.leader_node;
        let built = following.build(&self.store, now_secs);
        let Built {
            tree,
            touched,
            discarded,
        } = built.map_err(|reason| self.commit_failed(reason))?;
        self.store
            .replace(tree, &touched, leader_node)
            .map_err(SyncError::Store)?;
        self.failed_commit_count = 0;
        (self.notice)(DatabaseNotice::Replaced { discarded });
        Ok(())
    }

    fn discard(&mut self) {
        self.announced = None;
        self.following = None;
        self.updates = Vec::new().into_iter();
    }

    fn checksum(&mut self) -> Digest {
        let snapshot = self.store.read(Tree::snapshot);
        snapshot.checksum()
    }

    /// The first acknowledgement writes all records to the crash journal that wait; the others find theirs there.
    fn flush(&mut self) {
        for (reply, ticket) in self.answers.drain(..) {
            self.store.acknowledge(ticket, reply);
        }
    }
}
