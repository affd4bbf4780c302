//! Files that say that an instance runs: the lock, the PID file, the restart flag.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::PollTimeout;

/// How long a start waits for an instance that is still stopping.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

const LOCK_POLL_MS: u8 = 50;

const DIRECTORY_MODE: u32 = 0o750;

/// The one instance of a state directory. The lock goes with the process; its file stays.
#[derive(Debug)]
pub struct InstanceLock {
    _file: Flock<File>,
}

impl InstanceLock {
    /// Takes the lock, waiting up to ten seconds for the instance that holds it.
    ///
    /// # Errors
    /// If it stays taken, or the file cannot be made.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut told = false;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { _file: lock }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
                Err((_, errno)) => return Err(errno.into()),
            };
            if !told {
                tracing::info!("unable to acquire pmxcfs lock - trying again");
                told = true;
            }
            nix::poll::poll(&mut [], PollTimeout::from(LOCK_POLL_MS))?;
        }
    }
}

/// Makes the state directory if it is missing. One that exists is left as it is.
///
/// # Errors
/// If it cannot be made.
pub fn prepare_state_dir(path: &Path) -> io::Result<()> {
    make_directory(path)
}

/// Makes the run directory and gives it the owner and mode that clients need to see the restart flag.
///
/// # Errors
/// If it cannot be made.
pub fn prepare_run_dir(path: &Path, gid: u32) -> io::Result<()> {
    make_directory(path)?;
    let owned = chown(path, Some(0), Some(gid))
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)));
    if let Err(error) = owned {
        tracing::warn!(path = %path.display(), %error, "cannot set owner and mode of the run directory");
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// The PID file; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process' id, readers see the old file or the new one. Makes the directory if it is missing.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(path: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{pid:06}"));
        let temporary = PathBuf::from(temporary);
        let written = File::create(&temporary).and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            writeln!(file, "{pid}")?;
            std::fs::rename(&temporary, path)
        });
        if written.is_err() {
            // Best effort: the first error is the one to report.
            let _removed = std::fs::remove_file(&temporary);
        }
        written.map(|()| Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the PID file");
        }
    }
}

/// Makes the flag that lets IPC clients wait for a restart instead of failing.
pub fn set_restart_flag(path: &Path, gid: u32) {
    let made = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o440)
        .open(path)
        .and_then(|file| fchown(&file, Some(0), Some(gid)));
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "cannot make the restart flag");
    }
}

/// Removes the restart flag; clients are served again.
pub fn clear_restart_flag(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the restart flag");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_holds_the_pid_and_goes_away() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("x.pid");
        let file = PidFile::write(&path).expect("written");
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
        drop(file);
        assert!(!path.exists());
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
