//! Membership in a cluster: four services on one small runtime, wired to the tree, the status and the mount.
//!
//! `database` and `status` are what the two replication groups work for, `corosync_conf` brings the host's copy of corosync's
//! configuration up to date. Nothing of this exists in local mode.

mod database;
mod status;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pmxcfs_config::Config;
use pmxcfs_dfsm::database::Database;
use pmxcfs_dfsm::status::StatusGroup;
use pmxcfs_memdb::{MemDb, Mutator};
use pmxcfs_services::group::{GroupConfig, group};
use pmxcfs_services::quorum::{QuorumMonitor, QuorumService};
use pmxcfs_status::Status;
use tokio::sync::watch;

use self::database::{ClusterMutator, DatabaseHost, ReplicatedTree};
use self::status::{GroupPeers, ReplicatedStatus, StatusHost};
use crate::fuse::KernelReferences;

/// Threads of the runtime: one for each group, while the other one applies a long synchronisation.
const WORKER_COUNT: usize = 2;

/// How long the services may take to leave their groups.
const STOP_PATIENCE: Duration = Duration::from_millis(400);

/// This node's membership in a cluster.
pub(crate) struct Cluster {
    runtime: tokio::runtime::Runtime,
    stop: watch::Sender<bool>,
    groups: Vec<tokio::task::JoinHandle<()>>,
    mutator: Arc<ClusterMutator>,
    kernel: Arc<OnceLock<KernelReferences>>,
}

impl Cluster {
    /// Starts the services. Corosync may be running, or may come up at any time.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub(crate) fn start(
        _config: &Config,
        db: &Arc<MemDb>,
        status: &Arc<Status>,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_COUNT)
            .thread_name("cluster")
            .enable_all()
            .build()
            .context("cannot start the threads of the cluster services")?;
        let kernel = Arc::new(OnceLock::new());
        let monitor = QuorumMonitor::new();
        let config_of = |name, domain| GroupConfig {
            name,
            domain,
            started,
            quorum: monitor.clone(),
        };
        let (mut database, database_handle) = group(
            config_of("pve_dcdb_v1", "dcdb"),
            DatabaseHost::new(Arc::clone(db)),
            Database::new(ReplicatedTree::new(Arc::clone(db), Arc::clone(&kernel))),
        );
        let (mut status_group, status_handle) = group(
            config_of("pve_kvstore_v1", "status"),
            StatusHost::new(),
            StatusGroup::new(ReplicatedStatus(Arc::clone(status))),
        );
        status.set_peers(Box::new(GroupPeers(status_handle)));
        if let Some(store) = db.store() {
            let handle = database_handle.clone();
            store.watch(move |is_failed| {
                if !is_failed {
                    handle.mended();
                }
            });
        }
        let (stop, stopping) = watch::channel(false);
        let mut quorum = QuorumService::new(monitor.clone());
        runtime.spawn(async move {
            loop {
                let error = quorum.run().await;
                tracing::warn!(%error, "quorum");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let mut seen = monitor.subscribe();
        let quorate = Arc::clone(status);
        runtime.spawn(async move {
            loop {
                let is_quorate = *seen.borrow_and_update();
                quorate.set_quorate(is_quorate);
                if seen.changed().await.is_err() {
                    return;
                }
            }
        });
        let mut a = stopping.clone();
        let mut b = stopping;
        let groups = vec![
            runtime.spawn(async move { database.run(&mut a).await }),
            runtime.spawn(async move { status_group.run(&mut b).await }),
        ];
        Ok(Self {
            runtime,
            stop,
            groups,
            mutator: Arc::new(ClusterMutator::new(database_handle, monitor)),
            kernel,
        })
    }

    /// Where changes go.
    pub(crate) fn mutator(&self) -> Arc<dyn Mutator> {
        Arc::clone(&self.mutator) as Arc<dyn Mutator>
    }

    /// From now on, what other nodes remove stays readable for as long as the kernel knows it.
    pub(crate) fn watch_kernel(&self, references: KernelReferences) {
        // The filesystem is mounted once.
        let _first = self.kernel.set(references);
    }

    /// Leaves the groups and answers everybody who waits, within bounds.
    pub(crate) fn stop(self) {
        let _stopping = self.stop.send(true);
        let groups = self.groups;
        self.runtime.block_on(async {
            let all = async {
                for group in groups {
                    let _ended = group.await;
                }
            };
            let _in_time = tokio::time::timeout(STOP_PATIENCE, all).await;
        });
        self.runtime.shutdown_background();
    }
}
