//! What runs beside the mount: status, RRD writer, IPC server.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pmxcfs_config::Config;
use pmxcfs_ipc::{Server, ServerConfig, Transport};
use pmxcfs_memdb::MemDb;
use pmxcfs_rrd::{RrdConfig, RrdWriter};
use pmxcfs_status::{RrdSink, Status, StatusConfig, SystemClock};

use crate::cli::{IpcTransport, Options};
use crate::cluster::ClusterView;
use crate::health::counters::Meter;
use crate::health::{FuseOperation, IpcOperation, Sources};
use crate::ipc::Operations;
use crate::logging::LogLevel;
use crate::plugins::{DebugSwitch, ReadOnly, Registry};

/// How long clients may take to be disconnected.
const IPC_PATIENCE: Duration = Duration::from_millis(300);

/// How long RRD values that are queued may take to be written.
const RRD_PATIENCE: Duration = Duration::from_millis(300);

/// The running services.
pub(crate) struct Services {
    status: Arc<Status>,
    rrd: Arc<RrdWriter>,
    /// Absent once clients have been disconnected.
    ipc: Option<Server>,
    ipc_meter: &'static Meter<IpcOperation>,
    level: LogLevel,
    node_name: String,
}

/// Values on their way to RRD files.
struct RrdFeed(Arc<RrdWriter>);

impl RrdSink for RrdFeed {
    fn update(&self, key: &[u8], value: &[u8]) {
        self.0.submit(key, value);
    }
}

impl Services {
    /// Starts everything, without peers. A node on its own is quorate, a member of a cluster not until corosync says so.
    pub(crate) fn start(
        config: &Config,
        options: &Options,
        db: &Arc<MemDb>,
        level: LogLevel,
        is_member: bool,
    ) -> anyhow::Result<Self> {
        let paths = &config.paths;
        let rrd_config = RrdConfig::new(paths.rrd_dir.clone(), paths.rrdcached_socket.clone());
        let rrd = Arc::new(RrdWriter::start(rrd_config).context("cannot start the RRD thread")?);
        let status_config = StatusConfig {
            node_name: config.node_name.clone(),
            node_address: config.node_address,
            pid: std::process::id(),
        };
        let status = Arc::new(Status::new(
            &status_config,
            Box::new(SystemClock::new()),
            Box::new(RrdFeed(Arc::clone(&rrd))),
        ));
        status.set_quorate(!is_member);
        let operations = Operations::new(Arc::clone(db), Arc::clone(&status), config.admin_gid);
        let ipc_meter = operations.meter();
        let ipc = start_ipc(config, options, operations)
            .with_context(|| format!("cannot open the IPC service '{}'", config.ipc_name))?;
        Ok(Self {
            status,
            rrd,
            ipc: Some(ipc),
            ipc_meter,
            level,
            node_name: config.node_name.clone(),
        })
    }

    /// The plugins in the root of the mount.
    pub(crate) fn plugins(&self, db: &Arc<MemDb>) -> Registry {
        let mut registry = Registry::with_links(&self.node_name);
        let status = &self.status;
        registry.file(".version", {
            let (status, db) = (Arc::clone(status), Arc::clone(db));
            ReadOnly(move || status.version_document(&*db.read()))
        });
        registry.file(".members", {
            let status = Arc::clone(status);
            ReadOnly(move || status.members_document())
        });
        registry.file(".vmlist", {
            let (status, db) = (Arc::clone(status), Arc::clone(db));
            ReadOnly(move || status.guest_list_document(db.read().guests()))
        });
        registry.file(".rrd", {
            let status = Arc::clone(status);
            ReadOnly(move || status.rrd_document())
        });
        registry.file(".clusterlog", {
            let status = Arc::clone(status);
            ReadOnly(move || status.log_document())
        });
        registry.file(".debug", DebugSwitch::new(self.level.clone()));
        registry
    }

    /// What the mount asks for every mode.
    pub(crate) fn quorum(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let status = Arc::clone(&self.status);
        Box::new(move || status.is_quorate())
    }

    /// Work that comes up now and then, whether or not anybody asks for anything.
    pub(crate) fn tick(&self) {
        self.status.expire_samples();
    }

    /// The soft state.
    pub(crate) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// What a report on the daemon's health is made of.
    pub(crate) fn sources(
        &self,
        config: &Config,
        db: &Arc<MemDb>,
        fuse_meter: &'static Meter<FuseOperation>,
        cluster: Option<ClusterView>,
        started: Instant,
    ) -> Sources {
        Sources {
            config: config.clone(),
            started,
            db: Arc::clone(db),
            status: Arc::clone(&self.status),
            rrd: Arc::clone(&self.rrd),
            fuse: fuse_meter,
            ipc: self.ipc_meter,
            cluster,
        }
    }

    /// Disconnects IPC clients, within bounds. What they have asked for until now still reaches the other members.
    pub(crate) fn stop_clients(&mut self) {
        let Some(ipc) = self.ipc.take() else {
            return;
        };
        tracing::info!("withdrawing server sockets");
        if !ipc.stop(Instant::now() + IPC_PATIENCE) {
            tracing::warn!("an IPC request did not end in time, its client gets no answer");
        }
    }

    /// Stops everything that still runs, within bounds.
    pub(crate) fn stop(mut self) {
        self.stop_clients();
        if let Err(error) = self.rrd.stop(Instant::now() + RRD_PATIENCE) {
            tracing::warn!("{error}");
        }
    }
}

fn start_ipc(config: &Config, options: &Options, operations: Operations) -> io::Result<Server> {
    let transport = match options.ipc_transport {
        IpcTransport::Shm => Transport::Shm,
        IpcTransport::Socket => Transport::Socket,
    };
    let server_config = ServerConfig {
        service: config.ipc_name.clone(),
        transport,
        ..ServerConfig::default()
    };
    Server::start(server_config, Arc::new(operations))
}
