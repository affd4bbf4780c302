//! Files that show that an instance runs: the lock, the PID file, the restart flag.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown,
};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollTimeout;
use pmxcfs_config::Paths;
use procfs::LockType;

use crate::replace_file::replace_file;

/// How long a start waits for an instance that is still stopping.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

const LOCK_POLL_MS: u8 = 50;

const DIRECTORY_MODE: u32 = 0o750;

/// The lock on a state directory, which has one instance at a time. The kernel releases it with the process; the file stays.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock, waiting up to ten seconds for the instance that holds it.
    ///
    /// # Errors
    /// If it stays taken, or the file cannot be made.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
                Err(TryLockError::WouldBlock) => {
                    let taken = io::Error::from(Errno::EWOULDBLOCK);
                    let text = format!("{taken}: {}", holder(&file, path));
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if !told {
                let holder = holder(&file, path);
                tracing::info!("unable to acquire pmxcfs lock - trying again: {holder}");
                told = true;
            }
            nix::poll::poll(&mut [], PollTimeout::from(LOCK_POLL_MS))?;
        }
    }
}

/// Names the lock file and, if the kernel knows it, the process that holds the lock.
pub(crate) fn holder(file: &File, path: &Path) -> String {
    let held = format!("{} is held", path.display());
    let find = || {
        let inode = file.metadata().ok()?.ino();
        let mut locks = procfs::locks().ok()?.into_iter();
        let held = locks.find(|lock| lock.lock_type == LockType::FLock && lock.inode == inode);
        held?.pid
    };
    let Some(pid) = find() else {
        return held;
    };
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{held} by process {pid} ({})", program.trim_end())
}

/// Makes the run directory and gives it the owner and mode that clients need to see the restart flag.
///
/// # Errors
/// If it cannot be made.
pub(super) fn prepare_run_dir(path: &Path, gid: u32) -> io::Result<()> {
    make_directory(path)?;
    let owned = chown(path, Some(0), Some(gid))
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)));
    if let Err(error) = owned {
        tracing::warn!(path = %path.display(), %error, "cannot set owner and mode of the run directory");
    }
    Ok(())
}

/// Makes a directory of the daemon if it is missing, and does not touch an existing one.
///
/// # Errors
/// If it cannot be made.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Writes this process' id. Makes the directory if it is missing.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write_pid_file(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    replace_file(path, format!("{}\n", std::process::id()).as_bytes())
}

/// Restores the run directory and the PID file if somebody has removed them from under the running daemon. The crash journal
/// and the control socket restore themselves.
pub(super) fn restore(paths: &Paths, gid: u32) {
    let (run_dir, pid_file) = (&paths.run_dir, &paths.pid_file);
    if !std::fs::metadata(run_dir).is_ok_and(|found| found.gid() == gid) {
        log_restored("run directory", run_dir, prepare_run_dir(run_dir, gid));
    }
    if !pid_file.exists() {
        log_restored("PID file", pid_file, write_pid_file(pid_file));
    }
}

fn log_restored(what: &str, path: &Path, restored: io::Result<()>) {
    let path = path.display();
    match restored {
        Ok(()) => tracing::warn!(%path, "somebody removed the {what}: made it again"),
        Err(error) => tracing::debug!(%path, %error, "cannot make the {what} again"),
    }
}

/// Makes the flag that lets IPC clients wait for a restart instead of failing, and its directory if it is missing.
pub(super) fn set_restart_flag(paths: &Paths, gid: u32) {
    let path = paths.restart_flag();
    let made = prepare_run_dir(&paths.run_dir, gid).and_then(|()| {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o440)
            .open(&path)?;
        fchown(&file, Some(0), Some(gid))
    });
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "cannot make the restart flag");
    }
}

/// Removes a file that shows something, which `what` names for the log.
pub(super) fn remove(path: &Path, what: &str) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the {what}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_holds_the_pid() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("x.pid");
        write_pid_file(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, format!("{}\n", std::process::id()));
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("listable").count(),
            1,
            "no temporary file"
        );
        remove(&path, "PID file");
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_is_taken_names_its_holder() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join(".lock");
        let lock = InstanceLock::acquire(&path).expect("free");
        let text = holder(&File::open(&path).expect("there"), &path);
        let own = format!(
            "{} is held by process {} (",
            path.display(),
            std::process::id()
        );
        assert!(text.starts_with(&own), "{text}");
        drop(lock);
        let text = holder(&File::open(&path).expect("there"), &path);
        assert_eq!(text, format!("{} is held", path.display()));
    }

    #[test]
    fn second_instance_can_follow_the_first() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join(".lock");
        let first = InstanceLock::acquire(&path).expect("free");
        drop(first);
        InstanceLock::acquire(&path).expect("free again");
        let mode = std::fs::metadata(&path)
            .expect("stays")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
