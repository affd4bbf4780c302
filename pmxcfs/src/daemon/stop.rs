//! The stop, in order, each step bounded. A restart is a stop that leaves the mount to the next process, and so is the change to the
//! program that is installed now, which becomes the next image of this process.
//!
//! It has two halves. The first half disconnects clients and ends the FUSE loop, in which main is: it takes the mount down, or
//! dismisses the readers. A signal or a request starts it. When the loop has returned, for this reason or because somebody has
//! unmounted the filesystem, main does the second half: services, store, runtimes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pmxcfs_api_types::sync::Mutex;
use pmxcfs_config::Config;
use pmxcfs_ipc::Server;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::database::{self, Database};
use super::handover::{CONNECTION, Successor, TABLES};
use super::instance::{self, InstanceLock};
use super::mounting;
use super::notify::Notifier;
use super::runtimes::Runtimes;
use crate::cli::EXIT_FAILURE;
use crate::cluster::Cluster;
use crate::fuse::{Mount, Readers};
use crate::health::Sources;

/// How long disconnecting the IPC clients may take.
const IPC_PATIENCE: Duration = Duration::from_millis(200);

/// How long requests under way may take. Handlers do not wait, so this is ample.
const REQUEST_PATIENCE: Duration = Duration::from_millis(200);

/// How long changes under way may take before a change of the program. Other members may have to answer.
const CHANGE_PATIENCE: Duration = Duration::from_secs(1);

/// How long writing the queued RRD values may take.
const RRD_PATIENCE: Duration = Duration::from_millis(200);

/// How long writing down the last changes may take.
const HISTORY_PATIENCE: Duration = Duration::from_millis(150);

/// How long the FUSE loop may take to return once its connection is aborted.
const LOOP_PATIENCE: Duration = Duration::from_millis(300);

/// How long main may take after that. Its steps need less, each bounded by itself.
const MAIN_PATIENCE: Duration = Duration::from_millis(1300);

/// What comes after the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing.
    Stop,
    /// Another process, which the service manager starts and gives the mount.
    Restart,
    /// The program that is installed now.
    Change,
}

impl Ending {
    /// Whether the mount outlives this image of the process.
    const fn leaves_mount(self) -> bool {
        matches!(self, Self::Restart | Self::Change)
    }
}

/// The parts that serve clients and programs.
pub(super) struct Serving {
    pub(super) sources: Sources,
    pub(super) notifier: Notifier,
    pub(super) mount: Mount,
    pub(super) readers: Readers,
    /// The tables of names and handles.
    pub(super) tables: OwnedFd,
    pub(super) successor: Successor,
    /// `None` once the first half of the stop has begun, during which it is held.
    pub(super) ipc: Mutex<Option<Server>>,
    /// Set when the stop begins.
    pub(super) ending: OnceLock<Ending>,
    /// There was a signal, perhaps in the middle of a change.
    pub(super) is_stop_wanted: AtomicBool,
    /// Main is back from the FUSE loop.
    pub(super) has_returned: AtomicBool,
}

impl Serving {
    /// The daemon's configuration.
    pub(super) const fn config(&self) -> &Config {
        &self.sources.config
    }

    /// Whether the stop has begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.ending.get().is_some()
    }

    /// The first half. A second caller waits until it is done. Requests of clients until now still reach the other members.
    fn end(&self, ending: Ending) {
        let ending = *self.ending.get_or_init(|| ending);
        let mut ipc = self.ipc.lock();
        let Some(ipc) = ipc.take() else {
            return;
        };
        if ending != Ending::Change {
            self.notifier.stopping();
        }
        instance::set_restart_flag(&self.config().paths, self.config().admin_gid);
        tracing::info!("teardown filesystem");
        tracing::info!("withdrawing server sockets");
        if !ipc.stop(Instant::now() + IPC_PATIENCE) {
            tracing::warn!("an IPC request took too long for the stop: its client gets no answer");
        }
        if !ending.leaves_mount() {
            self.take_down();
        } else if let Err(error) = self.readers.dismiss() {
            tracing::error!(%error, "cannot leave the mount to the next process");
            self.take_down();
        }
    }

    /// Ends the mount for good.
    fn take_down(&self) {
        self.mount.take_down(REQUEST_PATIENCE, || self.is_busy());
        mounting::let_go(&self.notifier);
    }

    /// Whether requests of programs have no answer yet.
    fn is_busy(&self) -> bool {
        let mut totals = self.sources.fuse.totals();
        totals.any(|(_, totals)| totals.in_flight > 0)
    }

    /// Obeys a stop signal, on the control runtime.
    pub(super) async fn stop_from_outside(self: Arc<Self>) {
        self.is_stop_wanted.store(true, Ordering::Release);
        let ending = if self.notifier.starts_again().await {
            Ending::Restart
        } else {
            Ending::Stop
        };
        self.end_from_outside(ending).await;
    }

    /// Begins to change to the program that is installed now, on the control runtime.
    ///
    /// # Errors
    /// If there is none, or the daemon is stopping.
    pub(super) fn change(self: &Arc<Self>) -> io::Result<()> {
        self.successor.check()?;
        if self.is_stopping() {
            return Err(io::Error::other("the daemon is stopping"));
        }
        tokio::spawn(Arc::clone(self).end_from_outside(Ending::Change));
        Ok(())
    }

    /// Main does the second half and ends the process; if main does not come back in time, this ends it.
    async fn end_from_outside(self: Arc<Self>, ending: Ending) {
        let serving = Arc::clone(&self);
        if let Err(error) = spawn_blocking(move || serving.end(ending)).await {
            tracing::error!(%error, "the stop failed");
        }
        sleep(LOOP_PATIENCE).await;
        if !self.has_returned.load(Ordering::Acquire) {
            tracing::warn!(
                path = %self.config().paths.mount_dir.display(),
                "the mount is out of reach and programs hold files open in it: ending without it"
            );
            let serving = Arc::clone(&self);
            let close = move || {
                database::close(&serving.sources.db);
                stop_history(&serving.sources);
            };
            // Fails only if main ends the runtime after all.
            let _closed = spawn_blocking(close).await;
            instance::remove(&self.config().paths.pid_file, "PID file");
            // A manager gives what it keeps to the next process.
            exit(end_status(ending == Ending::Change));
        }
        let patience = match ending {
            Ending::Stop => MAIN_PATIENCE,
            Ending::Restart | Ending::Change => MAIN_PATIENCE + CHANGE_PATIENCE,
        };
        sleep(patience).await;
        tracing::error!(
            "the stop takes too long: ending without the rest, the next start applies the crash journal"
        );
        exit(end_status(true));
    }
}

/// Lets the history write down the last changes, which the database has.
fn stop_history(sources: &Sources) {
    if let Some(history) = &sources.history {
        history.history.stop(HISTORY_PATIENCE);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "main, which would return the status, hangs"
)]
fn exit(status: u8) -> ! {
    std::process::exit(status.into())
}

/// Logs the end of the daemon and returns its status.
fn end_status(has_failed: bool) -> u8 {
    if has_failed {
        tracing::info!("exit proxmox configuration filesystem (-1)");
        return EXIT_FAILURE;
    }
    tracing::info!("exit proxmox configuration filesystem (0)");
    0
}

/// A daemon that serves: the owners of all its parts.
pub struct Daemon {
    pub(super) serving: Arc<Serving>,
    /// The other members, in cluster mode.
    pub(super) cluster: Option<Cluster>,
    pub(super) database: Database,
    pub(super) runtimes: Runtimes,
    pub(super) lock: InstanceLock,
}

impl Daemon {
    /// The second half, after the FUSE loop has returned. The status is 0, or that of a failure if the loop could not go on, so that
    /// systemd starts the daemon again.
    #[must_use]
    pub fn stop(self, served: io::Result<()>) -> ExitCode {
        let Self {
            serving,
            cluster,
            database,
            runtimes,
            lock,
        } = self;
        serving.has_returned.store(true, Ordering::Release);
        let mut has_failed = false;
        if !serving.is_stopping() {
            let path = serving.config().paths.mount_dir.display();
            match served {
                Ok(()) => tracing::warn!(%path, "unmounted from outside, stopping"),
                Err(error) => {
                    tracing::error!(%error, "the filesystem at {path} cannot be served any more");
                    has_failed = true;
                }
            }
        }
        serving.end(Ending::Stop);
        let ending = *serving.ending.get().unwrap_or(&Ending::Stop);
        if ending.leaves_mount() {
            serving
                .readers
                .settle(CHANGE_PATIENCE, || serving.is_busy());
            if let Err(error) = serving.sources.files.prepare_change() {
                tracing::warn!(%error, "handles on removed files end with this process");
            }
        }
        if let Some(cluster) = cluster {
            cluster.stop();
        }
        let unwritten = serving.sources.rrd.stop(Instant::now() + RRD_PATIENCE);
        if unwritten > 0 {
            tracing::warn!("the RRD writer did not finish in time, {unwritten} values are lost");
        }
        drop(database);
        stop_history(&serving.sources);
        match ending {
            Ending::Stop => {}
            Ending::Restart => serving.mount.leave(),
            Ending::Change if serving.is_stop_wanted.load(Ordering::Acquire) => serving.take_down(),
            Ending::Change => {
                drop(runtimes);
                return serving.change_over();
            }
        }
        instance::remove(&serving.config().paths.pid_file, "PID file");
        // Last: until here the control socket answers, and the signal's task bounds the stop.
        drop(runtimes);
        drop(lock);
        ExitCode::from(end_status(has_failed))
    }
}

impl Serving {
    /// Becomes the program that is installed now, with the mount. The instance lock goes with the image of this one.
    fn change_over(&self) -> ExitCode {
        self.mount.leave();
        let Err(error) = self.successor.execute(&[
            (TABLES, self.tables.as_fd()),
            (CONNECTION, self.readers.connection().descriptor()),
        ]);
        // The log may have lost its descriptor.
        eprintln!("[main] crit: cannot execute the installed program: {error}");
        ExitCode::from(EXIT_FAILURE)
    }
}
