//! Going to the background.
//!
//! The fork comes first, before threads, locks and open files exist, so it loses nothing (a child inherits neither SQLite's
//! locks nor threads). The whole start runs in the child, which keeps the caller's
//! stderr until it serves; the parent waits and ends with the outcome of the real start.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use crate::cli::EXIT_FAILURE;

/// The child sends this byte when it serves.
const READY: u8 = b'1';

/// The two processes after a fork.
#[derive(Debug)]
pub enum Role {
    /// The one that the caller waits for.
    Parent(StartingChild),
    /// The one that becomes the daemon, and the one that waits for its start unless it stays in the foreground.
    Daemon(Option<WaitingParent>),
}

/// The daemon, as seen by the process that started it.
#[derive(Debug)]
pub struct StartingChild {
    pid: Pid,
    ready: File,
}

/// The process that waits for the daemon's start, as seen by the daemon.
#[derive(Debug)]
pub struct WaitingParent {
    ready: File,
}

/// Splits off the process that becomes the daemon, with a session of its own, unless it is to stay in the foreground.
///
/// # Errors
/// If the kernel refuses the pipe, the fork or the new session.
pub fn daemonize(foreground: bool) -> io::Result<Role> {
    if foreground {
        return Ok(Role::Daemon(None));
    }
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    match fork_single_threaded()? {
        ForkResult::Parent { child } => Ok(Role::Parent(StartingChild {
            pid: child,
            ready: read.into(),
        })),
        ForkResult::Child => {
            nix::unistd::setsid()?;
            let ready = write.into();
            Ok(Role::Daemon(Some(WaitingParent { ready })))
        }
    }
}

#[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
fn fork_single_threaded() -> nix::Result<ForkResult> {
    // SAFETY: called from main before any thread is started, so the child's copy of memory is consistent.
    unsafe { nix::unistd::fork() }
}

impl StartingChild {
    /// Waits for the daemon to serve or to fail, and returns the status to end with.
    #[must_use]
    pub fn wait_until_ready(mut self, mount_dir: &Path) -> ExitCode {
        let mut byte = [0];
        if matches!(self.ready.read(&mut byte), Ok(1)) && byte[0] == READY {
            return ExitCode::SUCCESS;
        }
        // The pipe closes when the child ends, so this does not wait.
        let status = waitpid(self.pid, None);
        if !matches!(status, Ok(WaitStatus::Exited(..))) {
            eprintln!("[main] crit: child failed to send '1' ({status:?})");
        }
        remove_dead_mount(mount_dir);
        ExitCode::from(EXIT_FAILURE)
    }
}

fn remove_dead_mount(mount_dir: &Path) {
    let dead = matches!(std::fs::metadata(mount_dir), Err(error) if error.raw_os_error() == Some(libc::ENOTCONN));
    if dead {
        crate::fuse::detach(mount_dir);
    }
}

impl WaitingParent {
    /// Lets go of the terminal and tells the parent that the daemon serves.
    ///
    /// # Errors
    /// If the parent is gone: its caller believes that the start failed.
    pub fn ready(mut self) -> io::Result<()> {
        // Before the terminal goes, which shows the error.
        self.check_alive()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        redirect_standard_streams(&null.into())?;
        self.ready.write_all(&[READY])
    }

    fn check_alive(&self) -> io::Result<()> {
        let mut pipe = [PollFd::new(self.ready.as_fd(), PollFlags::empty())];
        match nix::poll::poll(&mut pipe, PollTimeout::ZERO)? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn redirect_standard_streams(target: &OwnedFd) -> io::Result<()> {
    nix::unistd::dup2_stdin(target.as_fd())?;
    nix::unistd::dup2_stdout(target.as_fd())?;
    nix::unistd::dup2_stderr(target.as_fd())?;
    Ok(())
}
