//! The database group's side of the daemon: the tree that it replicates, and the callers that wait for it.
//!
//! A mutation is parked here between its multicast and the delivery of its own message. It sees the tree under the very lock
//! under which it was applied, so a caller learns of its own operation, not of what came after; it is answered when the
//! crash journal has the operation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_dfsm::core::RequestId;
use pmxcfs_dfsm::database::{Database, DatabaseNotice, DatabaseRequest, TreeStore};
use pmxcfs_memdb::store::{Discarded, Ticket, save_discarded};
use pmxcfs_memdb::{Caller, Change, Entry, MemDb, Operation, Plan, Reply, Stamp, Tree};
use pmxcfs_services::group::{GroupHandle, GroupHost};
use pmxcfs_services::quorum::QuorumMonitor;

use super::corosync_conf::Distributor;

/// An answer, and what has to be recorded before it is given.
type Answered = (Reply, Option<Ticket>);

/// The tree as the group changes it.
pub(crate) struct ReplicatedTree {
    db: Arc<MemDb>,
    /// Callers between their multicast and their delivery.
    parked: HashMap<RequestId, Box<dyn Caller>>,
    /// Callers whose operation was applied, until the protocol says that the request is over.
    applied: HashMap<RequestId, Answered>,
}

impl std::fmt::Debug for ReplicatedTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicatedTree")
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}

impl ReplicatedTree {
    pub(super) fn new(db: Arc<MemDb>) -> Self {
        Self {
            db,
            parked: HashMap::new(),
            applied: HashMap::new(),
        }
    }
}

impl TreeStore for ReplicatedTree {
    /// The store's thread has the disk later: a slow one delays nobody's deliveries.
    fn change<R>(&mut self, call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R) -> R {
        let (result, _ticket) = self.db.change(call);
        result
    }

    fn apply(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        request: Option<RequestId>,
    ) -> Result<u32, FsError> {
        let caller = request.and_then(|id| Some((id, self.parked.remove(&id)?)));
        let (id, caller) = caller.unzip();
        let delivered = self.db.deliver(operation, stamp, now_secs, caller);
        if let Some((id, answered)) = id.zip(delivered.answer) {
            self.applied.insert(id, answered);
        }
        delivered.result
    }

    /// The one place where the group waits for this node's disk: a member must not call itself synced before it is.
    fn replace(&mut self, tree: Tree, touched: &[u64]) -> Result<(), String> {
        let replaced = tokio::task::block_in_place(|| self.db.replace_tree(tree, touched));
        replaced.map_err(|error| format!("unable to store the leader's data: {error}"))
    }

    fn is_failed(&self) -> bool {
        self.db.is_failed()
    }
}

/// What the database group's driver works for.
pub(crate) struct DatabaseHost {
    db: Arc<MemDb>,
    next_id: u64,
    /// Callers whose reply only waits for the crash journal.
    answered: Vec<Answered>,
    distributor: Distributor,
    discarded_dir: PathBuf,
}

impl DatabaseHost {
    /// `discarded_dir` gets what a sync takes from this node.
    pub(super) fn new(db: Arc<MemDb>, distributor: Distributor, discarded_dir: PathBuf) -> Self {
        Self {
            db,
            next_id: 0,
            answered: Vec::new(),
            distributor,
            discarded_dir,
        }
    }
}

impl DatabaseHost {
    /// What a sync took from this node may be all there is of somebody's work.
    fn keep(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let discarded = Discarded::locate(entries, &self.db.read());
        let directory = self.discarded_dir.clone();
        tokio::task::spawn_blocking(move || {
            match save_discarded(&directory, &discarded, wall_clock_secs()) {
                Ok(Some(saved)) => tracing::warn!(
                    kept = saved.kept_count,
                    only_named = saved.left_out_count,
                    "what gave way to the leader's data is in {}",
                    saved.directory.display()
                ),
                Ok(None) => {}
                Err(error) => tracing::error!(cause = %error.source, "{error}"),
            }
        });
    }
}

impl GroupHost for DatabaseHost {
    const NAME: &'static str = "cluster database";

    type App = Database<ReplicatedTree>;
    type Input = Box<dyn Caller>;

    fn accept(
        &mut self,
        mut caller: Box<dyn Caller>,
        app: &mut Self::App,
    ) -> Option<(RequestId, DatabaseRequest)> {
        let (planned, _ticket) = self.db.change(|tree, _changes| {
            let result = match caller.plan(tree) {
                Ok(Plan::Apply(operation)) => return Ok((caller, operation)),
                Ok(Plan::Orphan(change)) => tree.change_orphan(&change),
                Err(error) => Err(error),
            };
            Err(caller.answer(tree, &[], result))
        });
        let (caller, operation) = match planned {
            Ok(planned) => planned,
            Err(reply) => {
                reply(Ok(()));
                return None;
            }
        };
        self.next_id += 1;
        let id = RequestId(self.next_id);
        app.store_mut().parked.insert(id, caller);
        Some((id, DatabaseRequest::Apply(operation)))
    }

    fn refuse(&mut self, caller: Box<dyn Caller>, error: FsError) {
        caller.refuse(error);
    }

    fn answer(&mut self, id: RequestId, result: Result<u32, FsError>, app: &mut Self::App) {
        let ReplicatedTree {
            parked, applied, ..
        } = app.store_mut();
        if let Some(answered) = applied.remove(&id) {
            self.answered.push(answered);
        } else if let Some(caller) = parked.remove(&id) {
            let (reply, _ticket) = self
                .db
                .change(|tree, _changes| caller.answer(tree, &[], result));
            self.answered.push((reply, None));
        }
    }

    fn notice(&mut self, notice: DatabaseNotice, _app: &mut Self::App) {
        match notice {
            DatabaseNotice::CorosyncConf { reload } => self.distributor.changed(reload),
            DatabaseNotice::Replaced { discarded } => {
                self.distributor.changed(false);
                self.keep(discarded);
            }
        }
    }

    /// The first acknowledgement writes all records to the crash journal that wait; the others find theirs there.
    fn settle(&mut self, _app: &mut Self::App) {
        for (reply, ticket) in self.answered.drain(..) {
            match (ticket, self.db.store()) {
                (Some(ticket), Some(store)) => store.acknowledge(ticket, reply),
                _ => reply(Ok(())),
            }
        }
    }

    fn disconnected(&mut self, _app: &mut Self::App) {}
}

/// Takes callers to the group, unless there is no quorum.
pub(super) fn submit(
    group: &GroupHandle<Box<dyn Caller>>,
    quorum: &QuorumMonitor,
    caller: Box<dyn Caller>,
) {
    if !quorum.is_quorate() {
        return caller.refuse(FsError::Access);
    }
    if let Err(caller) = group.submit(caller) {
        caller.refuse(FsError::Io);
    }
}
