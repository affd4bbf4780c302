//! The start, in order.
//!
//! Each step either succeeds or ends the start with one critical line and status 255, leaving nothing behind that the next
//! start would stumble over: no mount, no PID file, no half-made database. A failed step drops the owners of everything before
//! it, in reverse order.

use std::io;
use std::mem;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::{FsError, NodeId};
use pmxcfs_config::{Config, admin_gid, node_address, node_name};
use pmxcfs_ipc::{Server, ServerConfig};
use pmxcfs_memdb::{MemDb, Rules, Submit};
use pmxcfs_rrd::{RrdConfig, RrdWriter};
use pmxcfs_status::{Status, SystemClock};
use tokio::runtime::Handle;

use super::background::WaitingParent;
use super::control;
use super::database::Database;
use super::documents::documents;
use super::environment::ManagerVariables;
use super::handover::{Inherited, Successor};
use super::instance::{self, InstanceLock};
use super::memory;
use super::mounting::{self, Takeover};
use super::notify::Notifier;
use super::runtimes::Runtimes;
use super::signals::StopSignals;
use super::stop::{Daemon, Serving};
use crate::cli::{EXIT_FAILURE, Options};
use crate::cluster::Cluster;
use crate::fs::Filesystem;
use crate::fuse::{FuseSession, PveFilesystem};
use crate::health::Sources;
use crate::history::History;
use crate::history::serve::HistoryService;
use crate::ipc::Operations;
use crate::logging::{self, LogLevel, Stream};

/// Permission bits that new files and directories never have.
const UMASK: u32 = 0o027;

/// How long after its start a member that goes on with its mount may take to be quorate again. Changes wait for that.
const COMEBACK: Duration = Duration::from_secs(5);

/// What came with the process, and what goes with it.
#[derive(Debug)]
pub struct Launch {
    notifier: Notifier,
    inherited: Inherited,
    successor: Successor,
}

impl Launch {
    /// Call it first of all: descriptors have numbers that others would get, and variables leave the environment.
    #[must_use]
    pub fn of_this_process() -> Self {
        let variables = ManagerVariables::take();
        Self {
            notifier: Notifier::new(&variables),
            inherited: Inherited::take(&variables),
            successor: Successor::of_this_process(variables),
        }
    }
}

/// Starts the daemon and announces it. Run the session's loop to serve the mount.
///
/// # Errors
/// The status to end with; the log has the reason.
pub fn start(
    options: &Options,
    parent: Option<WaitingParent>,
    mut launch: Launch,
) -> Result<(Daemon, FuseSession), ExitCode> {
    let inherited = mem::take(&mut launch.inherited);
    let strangers = inherited.strangers.join(" ");
    // With a mount that programs wait in, a stop has to end it, so it comes after the start.
    let signals = inherited.connection.as_ref();
    let signals = signals.map(|_| StopSignals::take_over());
    let takeover = Takeover::begin(inherited, &options.paths().mount_dir);
    let stream = match parent {
        None => Stream::Stdout,
        Some(_) => Stream::Stderr,
    };
    let level = logging::init(options.debug, stream);
    if !strangers.is_empty() {
        tracing::warn!("closed descriptors that are not for this program: {strangers}");
    }
    let failed = |error: anyhow::Error| {
        tracing::error!("{error:#}");
        ExitCode::from(EXIT_FAILURE)
    };
    let config = identify(options).map_err(failed)?;
    start_as(config, options, level, parent, launch, signals, takeover)
        .map_err(failed)
        .inspect_err(|_| tracing::info!("exit proxmox configuration filesystem (-1)"))
}

/// Finds out who this host is.
fn identify(options: &Options) -> anyhow::Result<Config> {
    let node_name = match &options.node_name {
        Some(name) => name.clone(),
        None => node_name()?,
    };
    let node_address = match node_address(&node_name) {
        Ok(address) => {
            tracing::info!(
                "resolved node name '{node_name}' to '{address}' for default node IP address"
            );
            Some(address)
        }
        Err(error) if options.local => {
            tracing::warn!("{error} - going on in local mode");
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Config {
        paths: options.paths(),
        node_name,
        node_address,
        admin_gid: admin_gid()?,
        force_local: options.local,
        ipc_name: options.ipc_name.clone(),
    })
}

/// Starts as this host. `signals` are those that were taken over before anything else.
fn start_as(
    config: Config,
    options: &Options,
    level: LogLevel,
    parent: Option<WaitingParent>,
    launch: Launch,
    signals: Option<io::Result<StopSignals>>,
    takeover: Option<Takeover>,
) -> anyhow::Result<(Daemon, FuseSession)> {
    memory::configure();
    let lock = prepare_host(&config)?;
    // Not earlier: a start that waits for the lock can still be ended by any signal.
    let signals = signals.unwrap_or_else(StopSignals::take_over);
    let signals = signals.context("cannot take over signals")?;
    let started = Instant::now();
    let database = Database::open(&config, started)?;
    let db = &database.db;
    let runtimes = Runtimes::start().context("cannot start the runtimes")?;
    let is_member = database.rules == Rules::Replicated;
    let (status, rrd) = start_status(&config, is_member)?;
    let history = start_history(options, &config, db, &status);
    let operations = Operations::new(Arc::clone(db), Arc::clone(&status), config.admin_gid);
    let ipc_requests = operations.meter();
    let ipc = start_ipc(&config, options, operations, runtimes.ipc())
        .with_context(|| format!("cannot open the IPC service '{}'", config.ipc_name))?;

    let (mounted, deadline) = mounting::mount(takeover, &launch.notifier, &config.paths.mount_dir)?;
    let tables = mounted.tables.descriptor().try_clone_to_owned()?;
    let to_cluster: Arc<OnceLock<Submit>> = Arc::default();
    let submit: Submit = if is_member {
        let to_cluster = Arc::clone(&to_cluster);
        Box::new(move |caller| match to_cluster.get() {
            Some(submit) => submit(caller),
            None => caller.refuse(FsError::Access),
        })
    } else {
        let db = Arc::clone(db);
        Box::new(move |caller| db.submit(caller))
    };
    let quorum = Arc::clone(&status);
    let filesystem = Filesystem::new(
        Arc::clone(db),
        submit,
        documents(&config.node_name, db, &status, level),
        Box::new(move || quorum.is_quorate()),
        config.admin_gid,
        mounted.tables,
    );
    db.observe(Arc::clone(&filesystem) as _);
    // Not earlier: the tables are those of the tree that was loaded, and the filesystem has to see what other nodes change.
    let cluster = is_member.then(|| {
        let services = runtimes.services();
        let cluster = Cluster::start(services, &config, db, &status, started);
        let grace = mounted.is_taken_over.then(|| started + COMEBACK);
        // There is one cluster.
        let _first = to_cluster.set(cluster.submit(grace));
        cluster
    });
    let files = Arc::clone(&filesystem);
    let filesystem = PveFilesystem::new(filesystem, history.is_some());
    let fuse_requests = filesystem.meter();
    let runtime = runtimes.control().clone();
    let (session, readers) = FuseSession::new(filesystem, mounted.connection, runtime)
        .context("cannot serve the mount")?;
    let doubted = mounted.is_taken_over.then(|| files.known_ids());
    let sources = Sources {
        config,
        started,
        db: Arc::clone(db),
        files,
        status,
        rrd,
        fuse: fuse_requests,
        ipc: ipc_requests,
        cluster: cluster.as_ref().map(Cluster::view),
        history,
    };
    let serving = Arc::new(Serving {
        sources,
        notifier: launch.notifier,
        mount: mounted.mount,
        readers,
        tables,
        successor: launch.successor,
        ipc: Mutex::new(Rank::DaemonStop, Some(ipc)),
        ending: OnceLock::new(),
        is_stop_wanted: AtomicBool::new(false),
        has_returned: AtomicBool::new(false),
    });
    control::start(runtimes.control(), signals, &serving);
    announce(&serving, parent)?;
    control::attend(runtimes.control(), &serving);
    if let Some(ids) = doubted {
        let serving = Arc::clone(&serving);
        let doubt = move || serving.readers.connection().doubt(&ids);
        runtimes.control().spawn_blocking(doubt);
    }
    let daemon = Daemon {
        serving,
        cluster,
        database,
        runtimes,
        lock,
    };
    if deadline.is_some_and(|deadline| !deadline.meet()) {
        bail!("the start took too long for the programs that wait in the mount");
    }
    Ok((daemon, session))
}

/// Prepares the process and its directories, and takes the instance lock.
fn prepare_host(config: &Config) -> anyhow::Result<InstanceLock> {
    std::env::set_current_dir("/").context("cannot change to /")?;
    umask(Mode::from_bits_truncate(UMASK));
    let paths = &config.paths;
    instance::make_directory(&paths.state_dir)
        .with_context(|| format!("cannot make state directory {}", paths.state_dir.display()))?;
    instance::prepare_run_dir(&paths.run_dir, config.admin_gid)
        .with_context(|| format!("cannot make run directory {}", paths.run_dir.display()))?;
    InstanceLock::acquire(&paths.lock_file()).context("unable to acquire pmxcfs lock")
}

/// The soft state, without peers. A node on its own is quorate, a member of a cluster not until corosync says so.
fn start_status(config: &Config, is_member: bool) -> anyhow::Result<(Arc<Status>, Arc<RrdWriter>)> {
    let paths = &config.paths;
    let rrd_config = RrdConfig::new(paths.rrd_dir.clone(), paths.rrdcached_socket.clone());
    let rrd = Arc::new(RrdWriter::start(rrd_config).context("cannot start the RRD thread")?);
    let writer = Arc::clone(&rrd);
    let status = Arc::new(Status::new(
        &config.node_name,
        config.node_address,
        std::process::id(),
        Box::<SystemClock>::default(),
        Box::new(move |key, value| writer.submit(key, value)),
    ));
    status.set_quorate(!is_member);
    Ok((status, rrd))
}

/// The history of changes, unless it is off. Without a thread for it, the daemon serves as if it were.
fn start_history(
    options: &Options,
    config: &Config,
    db: &Arc<MemDb>,
    status: &Arc<Status>,
) -> Option<Arc<HistoryService>> {
    let mut settings = options.history.clone();
    if !settings.history {
        return None;
    }
    settings.file = config.paths.history();
    let (own_name, status) = (config.node_name.clone(), Arc::clone(status));
    let node_name = move |id: u32| {
        let cluster = status.cluster().unwrap_or_default();
        match cluster.nodes.get(&NodeId(id)) {
            Some(node) => String::from_utf8_lossy(&node.name).into_owned(),
            None if id == 0 => own_name.clone(),
            None => id.to_string(),
        }
    };
    match History::start(settings, db, Box::new(node_name)) {
        Ok(history) => Some(Arc::new(HistoryService::new(history))),
        Err(error) => {
            tracing::warn!(%error, "cannot start the history's thread: no history of changes");
            None
        }
    }
}

fn start_ipc(
    config: &Config,
    options: &Options,
    operations: Operations,
    runtime: &Handle,
) -> io::Result<Server> {
    let server_config = ServerConfig {
        service: config.ipc_name.clone(),
        transport: options.ipc_transport,
        ..ServerConfig::default()
    };
    Server::start(server_config, Arc::new(operations), runtime)
}

/// Announces a daemon that answers: to IPC clients, scripts, the starting process and the service manager.
fn announce(serving: &Serving, parent: Option<WaitingParent>) -> anyhow::Result<()> {
    let paths = &serving.config().paths;
    // Clients need not wait any more.
    instance::remove(&paths.restart_flag(), "restart flag");
    instance::write_pid_file(&paths.pid_file)
        .with_context(|| format!("cannot write {}", paths.pid_file.display()))?;
    if let Some(parent) = parent
        && let Err(error) = parent.ready()
    {
        instance::remove(&paths.pid_file, "PID file");
        return Err(error).context("the starting process is gone");
    }
    serving.notifier.ready();
    Ok(())
}
