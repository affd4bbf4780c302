//! The stop, in order, each step bounded.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use pmxcfs_memdb::MemDb;
use pmxcfs_memdb::store::ShutdownOutcome;

use crate::fuse::{self, FuseSession};
use crate::instance;
use crate::liveness::{Probe, mount_answers};
use crate::notify::Notifier;
use crate::signals::StopReason;
use crate::startup::{Daemon, EXIT_FAILURE};

/// How long requests that the kernel has already handed over may take. Handlers do not wait, so this is ample.
const SESSION_PATIENCE: Duration = Duration::from_millis(200);

/// How long the database may take to accept what is queued, if another process holds it. What is left stays in the crash
/// journal for the next start.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// Time between two looks at what has to be done now and then.
const TICK: Duration = Duration::from_secs(30);

/// Tells the service manager that the daemon lives, for as long as its mount answers.
struct Watchdog<'a> {
    notifier: &'a Notifier,
    probe: Option<Probe>,
}

impl<'a> Watchdog<'a> {
    fn new(notifier: &'a Notifier, mount_dir: &Path) -> Self {
        let mount_dir = mount_dir.to_owned();
        let probe = notifier
            .watchdog_interval()
            .map(|_| Probe::start(move || mount_answers(&mount_dir)));
        let probe = match probe.transpose() {
            Ok(probe) => probe,
            Err(error) => {
                tracing::warn!(%error, "cannot ask the mount, so the watchdog is told that the process lives and no more");
                None
            }
        };
        Self { notifier, probe }
    }

    fn pause(&self) -> Duration {
        self.notifier.watchdog_interval().unwrap_or(TICK)
    }

    fn look(&self) {
        if self.probe.as_ref().is_none_or(Probe::answers) {
            self.notifier.alive();
        }
    }
}

/// Waits for a reason to stop and takes the daemon down. Returns status 0, or that of a failure if the mount could not be
/// served any more, so that systemd starts the daemon again.
pub(crate) fn serve_until_stopped(daemon: Daemon, notifier: &Notifier) -> ExitCode {
    let Daemon {
        config,
        mut stop_events,
        db,
        mut services,
        cluster,
        health,
        session,
        pid_file,
        lock,
    } = daemon;
    notifier.ready();
    let watchdog = Watchdog::new(notifier, &config.paths.mount_dir);
    let pause = watchdog.pause().min(TICK);
    let mut ticked = Instant::now();
    let tick = || {
        watchdog.look();
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            services.tick();
        }
    };
    let failed = match stop_events.wait(pause, tick) {
        Ok(StopReason::Signal(signal)) => {
            tracing::debug!(%signal, "stopping");
            false
        }
        Ok(StopReason::Unmounted) => {
            tracing::warn!(path = %config.paths.mount_dir.display(), "unmounted from outside, stopping");
            false
        }
        Ok(StopReason::SessionFailed) => true,
        Err(error) => {
            tracing::error!(%error, "cannot wait for signals, stopping");
            true
        }
    };
    drop(watchdog);
    notifier.stopping();
    instance::set_restart_flag(&config.paths.restart_flag(), config.admin_gid);
    tracing::info!("teardown filesystem");
    services.stop_clients();
    fuse::detach(&config.paths.mount_dir);
    drop(health);
    if let Some(cluster) = cluster {
        cluster.stop();
    }
    services.stop();
    wait_for_session(&session);
    close_database(&db);
    drop(pid_file);
    drop(lock);
    if failed {
        tracing::info!("exit proxmox configuration filesystem (-1)");
        return ExitCode::from(EXIT_FAILURE);
    }
    tracing::info!("exit proxmox configuration filesystem (0)");
    ExitCode::SUCCESS
}

/// Gives requests on their way time to be answered. A file that somebody keeps open keeps the session alive until the
/// process ends; its later requests fail.
fn wait_for_session(session: &FuseSession) {
    let deadline = Instant::now() + SESSION_PATIENCE;
    while !session.is_finished() && Instant::now() < deadline {
        // Interrupted or not, the loop looks again.
        let _slept = nix::poll::poll(&mut [], PollTimeout::from(2u8));
    }
}

/// Commits what is queued and closes the database.
pub(crate) fn close_database(db: &MemDb) {
    match db.shutdown(STORE_PATIENCE) {
        None | Some(ShutdownOutcome::Clean) => tracing::debug!("database closed"),
        Some(ShutdownOutcome::LogKept) => {
            tracing::info!(
                "another process has the database open, so SQLite's log stays beside it"
            );
        }
        Some(ShutdownOutcome::JournalKept { reason }) => {
            tracing::warn!(
                "{reason}: the last changes are in the crash journal, the next start applies them"
            );
        }
        Some(ShutdownOutcome::Lost { reason }) => {
            tracing::error!(
                "{reason}, and the crash journal is incomplete: the last changes are lost"
            );
        }
        Some(outcome) => {
            tracing::warn!(
                ?outcome,
                "the database was not closed; the next start applies the crash journal"
            );
        }
    }
}
