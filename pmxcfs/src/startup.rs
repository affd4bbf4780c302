//! The start, in order.
//!
//! Each step either succeeds or ends the start with one critical line and status 255, leaving nothing behind that the next
//! start would stumble over: no mount, no PID file, no half-made database.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use nix::sys::stat::{Mode, umask};
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use pmxcfs_api_types::names::COROSYNC_CONF;
use pmxcfs_config::{Config, Paths, admin_gid, node_address, node_name};
use pmxcfs_memdb::store::{Store, StoreConfig};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, Operation, ROOT_INODE, Rules, Tree};

use crate::cli::Options;
use crate::cluster::Cluster;
use crate::daemonize::WaitingParent;
use crate::fuse::{self, Ownership, PveFilesystem};
use crate::health::Health;
use crate::instance::{self, InstanceLock, PidFile};
use crate::logging::{self, LogLevel, Stream};
use crate::notify::Notifier;
use crate::services::Services;
use crate::shutdown;
use crate::signals::StopEvents;

/// Status of a start that failed. Status 0 is not restarted by systemd, this is.
pub const EXIT_FAILURE: u8 = 255;

/// What newly made files and directories must not allow.
const UMASK: u32 = 0o027;

/// Who is told that the daemon serves.
#[derive(Debug)]
pub enum Readiness {
    /// Nobody: the daemon stays in the foreground.
    Foreground,
    /// The process that waits for the start.
    Daemon(WaitingParent),
}

/// A daemon that serves, and everything that its stop has to take down.
pub(crate) struct Daemon {
    pub(crate) config: Config,
    pub(crate) stop_events: StopEvents,
    pub(crate) db: Arc<MemDb>,
    pub(crate) services: Services,
    /// The other members, in cluster mode.
    pub(crate) cluster: Option<Cluster>,
    /// Answers questions about all this.
    pub(crate) health: Health,
    pub(crate) session: fuse::FuseSession,
    pub(crate) pid_file: PidFile,
    pub(crate) lock: InstanceLock,
}

/// Runs the daemon to its end and returns the status to end with.
#[must_use]
pub fn run(options: Options, readiness: Readiness, notifier: Notifier) -> ExitCode {
    let stream = match readiness {
        Readiness::Foreground => Stream::Stdout,
        Readiness::Daemon(_) => Stream::Stderr,
    };
    let level = logging::init(options.debug, stream);
    let outcome = identify(&options)
        .map_err(|error| (error, false))
        .and_then(|config| {
            start(config, &options, level, readiness).map_err(|error| (error, true))
        });
    match outcome {
        Ok(daemon) => shutdown::serve_until_stopped(daemon, &notifier),
        Err((error, started)) => {
            tracing::error!("{error:#}");
            if started {
                tracing::info!("exit proxmox configuration filesystem (-1)");
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
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
        Err(error) => return Err(error.into()),
    };
    Ok(Config {
        paths: options.paths(),
        node_name,
        node_address,
        admin_gid: admin_gid()?,
        force_local: options.local,
        debug: options.debug,
        ipc_name: options.ipc_name.clone(),
    })
}

fn start(
    config: Config,
    options: &Options,
    level: LogLevel,
    readiness: Readiness,
) -> anyhow::Result<Daemon> {
    std::env::set_current_dir("/").context("cannot change to /")?;
    umask(Mode::from_bits_truncate(UMASK));
    let paths = &config.paths;
    instance::prepare_state_dir(&paths.state_dir)
        .with_context(|| format!("cannot make state directory {}", paths.state_dir.display()))?;
    instance::prepare_run_dir(&paths.run_dir, config.admin_gid)
        .with_context(|| format!("cannot make run directory {}", paths.run_dir.display()))?;
    // A start that waits for the lock can still be ended by any signal.
    let lock =
        InstanceLock::acquire(&paths.lock_file()).context("unable to acquire pmxcfs lock")?;
    let stop_events = StopEvents::take_over().context("cannot take over signals")?;

    let started = Instant::now();
    let (db, mode) = open_database(&config, started)?;
    let is_member = mode == Rules::Replicated;
    let services = Services::start(&config, options, &db, level, is_member)?;
    let cluster = is_member
        .then(|| Cluster::start(&config, &db, services.status(), started))
        .transpose();
    let served = cluster.and_then(|cluster| {
        let served = mount_and_serve(
            &config,
            &db,
            &services,
            cluster.as_ref(),
            &stop_events,
            readiness,
            started,
        );
        match served {
            Ok(served) => Ok((served, cluster)),
            Err(error) => {
                fuse::detach(&config.paths.mount_dir);
                if let Some(cluster) = cluster {
                    cluster.stop();
                }
                Err(error)
            }
        }
    });
    match served {
        Ok(((session, pid_file, health), cluster)) => Ok(Daemon {
            config,
            stop_events,
            db,
            services,
            cluster,
            health,
            session,
            pid_file,
            lock,
        }),
        Err(error) => {
            services.stop();
            shutdown::close_database(&db);
            Err(error)
        }
    }
}

/// Opens or makes the database, replays what a crash left, and imports corosync's configuration on the first start. What it
/// holds then decides by which rules the tree is kept.
fn open_database(config: &Config, started: Instant) -> anyhow::Result<(Arc<MemDb>, Rules)> {
    let paths = &config.paths;
    let database = paths.database();
    let import = first_start_import(config)?;
    let failed = || {
        format!(
            "memdb_open failed - unable to open database '{}'",
            database.display()
        )
    };
    let (store, loaded) = Store::open(StoreConfig::new(
        database.clone(),
        Some(paths.run_dir.clone()),
    ))
    .with_context(failed)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", database.display());
    }
    let rules = rules(config, &loaded.entries, import.is_some());
    let tree = Tree::from_entries(loaded.root, loaded.entries, rules, 0).with_context(failed)?;
    for warning in tree.warnings() {
        tracing::warn!("{}: {warning}", database.display());
    }
    let db = MemDb::new(tree, started);
    db.start_store(store)
        .context("cannot start the store's thread")?;
    if let Some(text) = import {
        import_corosync_conf(&db, text)
            .context("memdb_write failed - unable to import corosync.conf")?;
    }
    Ok((db, rules))
}

/// What a first start imports, read and checked before the database is made: a refusal must not change the next start.
fn first_start_import(config: &Config) -> anyhow::Result<Option<Bytes>> {
    let Paths { corosync_conf, .. } = &config.paths;
    if config.force_local || config.paths.database().exists() {
        return Ok(None);
    }
    let Ok(text) = std::fs::read(corosync_conf) else {
        return Ok(None);
    };
    if text.len() as u64 > MAX_FILE_SIZE {
        bail!(
            "memdb_write failed - unable to import corosync.conf: {} is larger than {MAX_FILE_SIZE} bytes",
            corosync_conf.display()
        );
    }
    Ok(Some(text.into()))
}

/// The leading slash keeps the import from counting as a change of the versioned path.
fn import_corosync_conf(db: &MemDb, data: Bytes) -> anyhow::Result<()> {
    let path = Bytes::from(format!("/{COROSYNC_CONF}"));
    db.apply_and_wait(Operation::Create { path: path.clone() })?;
    db.apply_and_wait(Operation::Write {
        path,
        offset: 0,
        data,
        truncate: false,
    })?;
    Ok(())
}

/// Decides between local and cluster mode by what the database holds, or is about to hold.
fn rules(config: &Config, entries: &[Entry], is_imported: bool) -> Rules {
    let is_configured = is_imported
        || entries.iter().any(|entry| {
            entry.parent == ROOT_INODE
                && entry.inode != ROOT_INODE
                && entry.name == COROSYNC_CONF.as_bytes()
                && entry.kind == EntryKind::File
        });
    if is_configured && !config.force_local {
        return Rules::Replicated;
    }
    if is_configured {
        tracing::info!("forcing local mode (although corosync.conf exists)");
    }
    Rules::Local
}

fn mount_and_serve(
    config: &Config,
    db: &Arc<MemDb>,
    services: &Services,
    cluster: Option<&Cluster>,
    stop_events: &StopEvents,
    readiness: Readiness,
    started: Instant,
) -> anyhow::Result<(fuse::FuseSession, PidFile, Health)> {
    let mount_dir: &Path = &config.paths.mount_dir;
    fuse::clear_mount_point(mount_dir);
    let connection = fuse::mount(mount_dir)?;
    let submit = match cluster {
        Some(cluster) => cluster.submit(),
        None => {
            let db = Arc::clone(db);
            Box::new(move |caller| db.submit(caller))
        }
    };
    let filesystem = PveFilesystem::new(
        Arc::clone(db),
        submit,
        services.plugins(db),
        services.quorum(),
        Ownership {
            gid: config.admin_gid,
        },
    );
    db.observe(Box::new(filesystem.kernel_references()));
    let sources = services.sources(
        config,
        db,
        filesystem.meter(),
        cluster.map(Cluster::view),
        started,
    );
    let health = Health::start(&config.paths.control_socket(), sources);
    instance::clear_restart_flag(&config.paths.restart_flag());
    let pid_file = PidFile::write(&config.paths.pid_file)
        .with_context(|| format!("cannot write {}", config.paths.pid_file.display()))?;
    let notice = stop_events.session_notice();
    let session = fuse::serve(filesystem, connection, move |result| {
        if let Err(error) = &result {
            tracing::error!(%error, "the filesystem cannot be served any more");
        }
        notice.send(result.is_err());
    })
    .context("cannot serve the mount")?;
    if let Readiness::Daemon(parent) = readiness {
        parent.ready().context("the starting process is gone")?;
    }
    Ok((session, pid_file, health))
}
