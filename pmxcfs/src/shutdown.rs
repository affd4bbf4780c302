//! The stop, in order, each step bounded.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use pmxcfs_memdb::MemDb;

use crate::fuse::{self, FuseSession};
use crate::instance;
use crate::signals::StopReason;
use crate::startup::Daemon;

/// How long requests that the kernel has already handed over may take. Handlers do not wait, so this is ample.
const SESSION_PATIENCE: Duration = Duration::from_millis(200);

/// How long the database may take to accept what is queued, if another process holds it. What is left stays in the crash
/// journal for the next start.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// Waits for a reason to stop and takes the daemon down. Returns status 0.
pub(crate) fn serve_until_stopped(daemon: Daemon) -> ExitCode {
    let Daemon {
        config,
        mut stop_events,
        db,
        services,
        session,
        pid_file,
        lock,
    } = daemon;
    match stop_events.wait(|| services.tick()) {
        Ok(StopReason::Signal(signal)) => tracing::debug!(%signal, "stopping"),
        Ok(StopReason::Unmounted) => {
            tracing::warn!(path = %config.paths.mount_dir.display(), "unmounted from outside, stopping");
        }
        Err(error) => tracing::error!(%error, "cannot wait for signals, stopping"),
    }
    instance::set_restart_flag(&config.paths.restart_flag(), config.admin_gid);
    tracing::info!("teardown filesystem");
    services.stop();
    fuse::detach(&config.paths.mount_dir);
    wait_for_session(&session);
    close_database(&db);
    drop(pid_file);
    drop(lock);
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
    if let Some(outcome) = db.shutdown(STORE_PATIENCE) {
        tracing::debug!(?outcome, "database closed");
    }
}
