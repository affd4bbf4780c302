//! The stop, in order, each step bounded.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use pmxcfs_memdb::MemDb;
use pmxcfs_memdb::store::ShutdownOutcome;

use crate::fuse::{self, FuseSession};
use crate::instance;
use crate::signals::StopReason;
use crate::startup::{Daemon, EXIT_FAILURE};

/// How long requests that the kernel has already handed over may take. Handlers do not wait, so this is ample.
const SESSION_PATIENCE: Duration = Duration::from_millis(200);

/// How long the database may take to accept what is queued, if another process holds it. What is left stays in the crash
/// journal for the next start.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// Waits for a reason to stop and takes the daemon down. Returns status 0, or that of a failure if the mount could not be
/// served any more, so that systemd starts the daemon again.
pub(crate) fn serve_until_stopped(daemon: Daemon) -> ExitCode {
    let Daemon {
        config,
        mut stop_events,
        db,
        mut services,
        cluster,
        session,
        pid_file,
        lock,
    } = daemon;
    let failed = match stop_events.wait(|| services.tick()) {
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
    instance::set_restart_flag(&config.paths.restart_flag(), config.admin_gid);
    tracing::info!("teardown filesystem");
    services.stop_clients();
    fuse::detach(&config.paths.mount_dir);
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
