//! Membership in a cluster: four services on one small runtime, wired to the tree, the status and the mount.
//!
//! `database` and `status` are the stores of the two replication groups, `corosync_conf` brings the host's copy of corosync's
//! configuration up to date. Nothing of this exists in local mode.

mod corosync_conf;
mod database;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::names::COROSYNC_CONF;
use pmxcfs_api_types::{FsError, NodeId};
use pmxcfs_config::Config;
use pmxcfs_dfsm::database::Database;
use pmxcfs_dfsm::status::StatusGroup;
use pmxcfs_memdb::{EntryKind, MemDb, Submit};
use pmxcfs_services::cluster_config::{ClusterConfig, ClusterConfigService};
use pmxcfs_services::framework::{Manager, ServiceState};
use pmxcfs_services::group::{GroupConfig, GroupHandle, GroupStatus, group};
use pmxcfs_services::quorum::{QuorumMonitor, QuorumService};
use pmxcfs_status::Status;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::corosync_conf::{Distributor, Files, ReloadCommand};
use self::database::{ReplicatedTree, notice_sink};
use self::status::{GroupPeers, ReplicatedStatus};
use crate::daemon::runtimes::wait_for;
use crate::health::Replacements;

/// Replicates the database.
type DatabaseGroup = Database<ReplicatedTree>;

/// Replicates the status.
type StatusSyncGroup = StatusGroup<ReplicatedStatus>;

/// Names of the groups, without the NUL that belongs to them.
const DATABASE_GROUP: &str = "pve_dcdb_v1";
const STATUS_GROUP: &str = "pve_kvstore_v1";

/// How long the services may take to leave their groups.
const STOP_PATIENCE: Duration = Duration::from_millis(250);

/// How much later than that they may say so.
const STOP_MARGIN: Duration = Duration::from_millis(50);

/// This node's membership in a cluster.
pub(crate) struct Cluster {
    runtime: Handle,
    manager: Manager,
    quorum: QuorumMonitor,
    distributor: (Distributor, JoinHandle<()>),
    view: ClusterView,
}

/// The membership as an observer sees it. Asking costs the services nothing.
#[derive(Clone)]
pub(crate) struct ClusterView {
    database: GroupHandle<DatabaseGroup>,
    status: GroupHandle<StatusSyncGroup>,
    services: Vec<(&'static str, watch::Receiver<ServiceState>)>,
    /// What synchronisations have replaced on this node.
    pub(crate) replaced: Arc<Replacements>,
}

impl ClusterView {
    /// Both groups by name. `None` before they run.
    pub(crate) fn groups(&self) -> [(&'static str, Option<GroupStatus>); 2] {
        [
            (DATABASE_GROUP, self.database.status()),
            (STATUS_GROUP, self.status.status()),
        ]
    }

    /// All services by name.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&'static str, ServiceState)> {
        let services = self.services.iter();
        services.map(|(name, state)| (*name, state.borrow().clone()))
    }
}

impl Cluster {
    /// Starts the services. Corosync may be running, or may come up at any time.
    pub(crate) fn start(
        runtime: &Handle,
        config: &Config,
        db: &Arc<MemDb>,
        status: &Arc<Status>,
        started: Instant,
    ) -> Self {
        let distributor = start_distributor(runtime, config, db);
        // The host may have missed changes while the daemon did not run.
        distributor.0.changed(true);
        let quorum = QuorumMonitor::default();
        let mut manager = Manager::new(runtime.clone());

        let tells_quorum = manager.start(QuorumService::new(quorum.clone()));
        runtime.spawn(show_quorum(quorum.clone(), Arc::clone(status)));
        let configured = manager.start(ClusterConfigService::new(node_list_sink(status)));

        let discarded_dir = config.paths.state_dir.join("discarded");
        let replaced = Arc::new(Replacements::load(&discarded_dir));
        let notices = notice_sink(distributor.0.clone(), discarded_dir, Arc::clone(&replaced));
        let group_config = |name, group, domain, join_after| GroupConfig {
            name,
            group,
            domain,
            started,
            quorum: quorum.clone(),
            join_after,
        };
        // A member that does not know the quorum has to leave with the next change.
        let config = group_config("cluster database", DATABASE_GROUP, "dcdb", tells_quorum);
        let tree = ReplicatedTree(Arc::clone(db));
        let (service, database) = group(config, Database::new(tree, notices));
        let tree = Arc::clone(db);
        manager.start(service.prepared_by(move || tree.learn_digests()));
        watch_store(db, &database);

        // Status of nodes that are not in the list is dropped, so the list comes first.
        let config = group_config("status synchronisation", STATUS_GROUP, "status", configured);
        let store = ReplicatedStatus {
            status: Arc::clone(status),
            quorum: quorum.clone(),
        };
        let (service, peers) = group(config, StatusGroup::new(store));
        manager.start(service);
        status.set_peers(Box::new(GroupPeers(peers.clone())));
        let view = ClusterView {
            database,
            status: peers,
            services: manager.watch(),
            replaced,
        };

        Self {
            runtime: runtime.clone(),
            manager,
            quorum,
            distributor,
            view,
        }
    }

    /// A view of the membership.
    pub(crate) fn view(&self) -> ClusterView {
        self.view.clone()
    }

    /// Where changes go. Until `grace`, they wait for the quorum instead of being refused: programs that the daemon's end has not
    /// interrupted do not expect that they may not write.
    pub(crate) fn submit(&self, grace: Option<Instant>) -> Submit {
        let (group, quorum) = (self.view.database.clone(), self.quorum.clone());
        let runtime = self.runtime.clone();
        Box::new(move |caller| {
            if quorum.is_quorate() {
                group.submit(caller);
            } else if let Some(grace) = grace.filter(|grace| Instant::now() < *grace) {
                let (group, mut seen) = (group.clone(), quorum.subscribe());
                runtime.spawn(async move {
                    let is_quorate = seen.wait_for(|view| view.is_quorate);
                    match timeout_at(grace.into(), is_quorate).await {
                        Ok(Ok(_)) => group.submit(caller),
                        _ => caller.refuse(FsError::Access),
                    }
                });
            } else {
                caller.refuse(FsError::Access);
            }
        })
    }

    /// Leaves the groups and answers all callers, within bounds.
    pub(crate) fn stop(self) {
        let (manager, (distributor, distributing)) = (self.manager, self.distributor);
        let stop = async move {
            let deadline = tokio::time::Instant::now() + STOP_PATIENCE;
            let mut left = manager.stop(STOP_PATIENCE).await;
            distributor.stop();
            if timeout_at(deadline, distributing).await.is_err() {
                left.push("corosync.conf");
            }
            left
        };
        match wait_for(&self.runtime, STOP_PATIENCE + STOP_MARGIN, stop) {
            Some(left) if left.is_empty() => {}
            Some(left) => tracing::warn!(services = ?left, "services did not stop in time"),
            None => tracing::warn!("a service waits for corosync: stopping without it"),
        }
    }
}

fn start_distributor(
    runtime: &Handle,
    config: &Config,
    db: &Arc<MemDb>,
) -> (Distributor, JoinHandle<()>) {
    let db = Arc::clone(db);
    let read = move || {
        let tree = db.read();
        let entry = tree.lookup(COROSYNC_CONF.as_bytes())?;
        (entry.kind == EntryKind::File).then(|| entry.content())
    };
    let files = Files {
        cluster: config.paths.mount_dir.join(COROSYNC_CONF),
        host: config.paths.corosync_conf.clone(),
    };
    Distributor::start(runtime, files, ReloadCommand::default(), read)
}

/// A store that works again brings its node back into the group.
fn watch_store(db: &MemDb, database: &GroupHandle<DatabaseGroup>) {
    if let Some(store) = db.store() {
        let database = database.clone();
        store.watch(move |is_failed| {
            if !is_failed {
                database.mended();
            }
        });
    }
}

/// The nodes that corosync has loaded become the node list.
fn node_list_sink(status: &Arc<Status>) -> Box<dyn Fn(ClusterConfig) + Send + Sync> {
    let status = Arc::clone(status);
    Box::new(move |config| {
        let nodes = config
            .nodes
            .into_iter()
            .map(|(id, name)| (NodeId(id), Bytes::from(name)));
        // Shown as a signed number of 32 bits, as the C daemon does.
        let version = config.version.to_le_bytes();
        let version = i32::from_le_bytes([version[0], version[1], version[2], version[3]]);
        status.replace_node_list(Bytes::from(config.name), version, nodes);
    })
}

/// Modes and documents follow the quorum.
async fn show_quorum(quorum: QuorumMonitor, status: Arc<Status>) {
    let mut seen = quorum.subscribe();
    loop {
        let is_quorate = seen.borrow_and_update().is_quorate;
        if status.set_quorate(is_quorate) {
            tracing::debug!(is_quorate, "quorum");
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}
