//! The database group's side of the daemon: the tree that it replicates, and the callers that wait for it.
//!
//! A mutation is parked here between its multicast and the delivery of its own message. It sees the tree under the very lock
//! under which it was applied, so a caller learns of its own operation, not of what came after; it is answered when the
//! crash journal has the operation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_dfsm::core::RequestId;
use pmxcfs_dfsm::database::{Database, DatabaseNotice, DatabaseRequest, TreeStore};
use pmxcfs_memdb::store::{Discarded, Ticket, save_discarded};
use pmxcfs_memdb::{Change, Entry, MemDb, Mutation, Mutator, Operation, Plan, Stamp, Tree};
use pmxcfs_services::group::{GroupHandle, GroupHost};
use pmxcfs_services::quorum::QuorumMonitor;

use super::corosync_conf::Distributor;
use crate::fuse::KernelReferences;

/// A caller between its multicast and its answer.
struct Parked {
    mutation: Box<dyn Mutation>,
    /// Its operation was applied, and it has seen the result.
    is_applied: bool,
    /// What has to be recorded before the caller is told.
    ticket: Option<Ticket>,
}

/// The tree as the group changes it.
pub(crate) struct ReplicatedTree {
    db: Arc<MemDb>,
    /// What the kernel of this host knows of entries that other nodes remove. Set when the filesystem is mounted.
    kernel: Arc<OnceLock<KernelReferences>>,
    parked: HashMap<RequestId, Parked>,
}

impl std::fmt::Debug for ReplicatedTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicatedTree")
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}

impl ReplicatedTree {
    pub(super) fn new(db: Arc<MemDb>, kernel: Arc<OnceLock<KernelReferences>>) -> Self {
        Self {
            db,
            kernel,
            parked: HashMap::new(),
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
        let kernel = self.kernel.get();
        let mut parked = request.and_then(|id| self.parked.get_mut(&id));
        let mut changed = Vec::new();
        let (result, ticket) = self.db.change(|tree, changes| {
            let victim = kernel.and_then(|kernel| kernel.keep_victim(tree, operation));
            let result = tree.apply(operation, stamp, now_secs, changes);
            if let (Err(_), Some(inode), Some(kernel)) = (result, victim, kernel) {
                kernel.release_victim(tree, inode);
            }
            match &mut parked {
                Some(parked) => parked.mutation.applied(tree, result),
                None => changed.extend(changes.iter().map(Change::inode)),
            }
            result
        });
        match (parked, kernel) {
            (Some(parked), _) => {
                parked.is_applied = true;
                parked.ticket = ticket;
            }
            (None, Some(kernel)) => {
                if matches!(operation, Operation::Rename { .. }) {
                    kernel.distrust_names(&changed);
                }
                kernel.tell_changed(&changed);
            }
            (None, None) => {}
        }
        result
    }

    /// The one place where the group waits for this node's disk: a member must not call itself synced before it is.
    fn replace(&mut self, tree: Tree, touched: &[u64]) -> Result<(), String> {
        let replaced = tokio::task::block_in_place(|| match self.kernel.get() {
            Some(kernel) => kernel.replace_tree(tree, touched),
            None => self.db.replace_tree(tree, touched),
        });
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
    answered: Vec<(Box<dyn Mutation>, Option<Ticket>)>,
    distributor: Arc<Distributor>,
    discarded_dir: PathBuf,
}

impl DatabaseHost {
    /// `discarded_dir` gets what a sync takes from this node.
    pub(super) fn new(
        db: Arc<MemDb>,
        distributor: Arc<Distributor>,
        discarded_dir: PathBuf,
    ) -> Self {
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
    type Input = Box<dyn Mutation>;

    fn accept(
        &mut self,
        mut mutation: Box<dyn Mutation>,
        app: &mut Self::App,
    ) -> Option<(RequestId, DatabaseRequest)> {
        let (operation, _ticket) = self.db.change(|tree, _changes| {
            let result = match mutation.plan(tree) {
                Ok(Plan::Apply(operation)) => return Some(operation),
                Ok(Plan::Orphan) => mutation.apply_orphan(tree),
                Err(error) => Err(error),
            };
            mutation.applied(tree, result);
            None
        });
        let Some(operation) = operation else {
            mutation.finish(Ok(()));
            return None;
        };
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let parked = Parked {
            mutation,
            is_applied: false,
            ticket: None,
        };
        app.store_mut().parked.insert(id, parked);
        Some((id, DatabaseRequest::Apply(operation)))
    }

    fn refuse(&mut self, mutation: Box<dyn Mutation>, error: FsError) {
        mutation.finish(Err(error));
    }

    fn answer(&mut self, id: RequestId, result: Result<u32, FsError>, app: &mut Self::App) {
        let Some(mut parked) = app.store_mut().parked.remove(&id) else {
            return;
        };
        if !parked.is_applied {
            let mutation = &mut parked.mutation;
            self.db
                .change(|tree, _changes| mutation.applied(tree, result));
        }
        self.answered.push((parked.mutation, parked.ticket));
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
        for (mutation, ticket) in self.answered.drain(..) {
            match (ticket, self.db.store()) {
                (Some(ticket), Some(store)) => {
                    store.acknowledge(ticket, move |durable| mutation.finish(durable));
                }
                _ => mutation.finish(Ok(())),
            }
        }
    }

    fn disconnected(&mut self, _app: &mut Self::App) {}
}

/// Sends mutations to all members.
pub(super) struct ClusterMutator {
    group: GroupHandle<Box<dyn Mutation>>,
    quorum: QuorumMonitor,
}

impl ClusterMutator {
    pub(super) fn new(group: GroupHandle<Box<dyn Mutation>>, quorum: QuorumMonitor) -> Self {
        Self { group, quorum }
    }
}

impl Mutator for ClusterMutator {
    fn submit(&self, mutation: Box<dyn Mutation>) {
        if !self.quorum.is_quorate() {
            return mutation.finish(Err(FsError::Access));
        }
        if let Err(mutation) = self.group.submit(mutation) {
            mutation.finish(Err(FsError::Io));
        }
    }
}
