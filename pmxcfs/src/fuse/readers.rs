//! The end of the readers without the end of the connection, for a process that leaves its mount to the next one.
//!
//! The FUSE library's threads read from a descriptor until the connection ends, and answer by the same one.
//! [`Readers::dismiss`] puts a socket in its place: a thread that reads there gets a `FUSE_DESTROY`, as after an unmount, and ends,
//! and a thread of this module passes on to the device what the others still answer. A signal wakes those that wait for
//! requests, which read again, from the socket. So when the loop has returned, no request is read that nobody carries out.
#![expect(
    unsafe_code,
    reason = "the library does not lend its descriptor, and the standard library has no signals"
)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Filesystem, Notifier, Session};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollTimeout;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::connection::{Connection, socket_pair};

/// Ignored by default, and used by nobody here.
const WAKE_UP: Signal = Signal::SIGURG;

/// Names of the library's threads begin with this.
const READER_NAME: &str = "fuser-";

/// The kernel's number of the last request of a connection.
const FUSE_DESTROY: u32 = 38;

/// A number that no request of the kernel has, so that it does not mind the answer.
const FAREWELL_ID: u64 = 1 << 62;

/// Longer than any answer.
const ANSWER_SIZE: usize = 512 * 1024;

/// Looks at what is not over yet.
const PAUSE_MS: u8 = 2;

/// The threads that serve a connection.
pub struct Readers {
    connection: Arc<Connection>,
    count: usize,
    /// The library's descriptor, which it closes with its last sender. One is kept here.
    place: i32,
    _open: Notifier,
    passing: OnceLock<Passing>,
}

/// What comes after the readers.
struct Passing {
    /// Answers go in here.
    near: OwnedFd,
    thread: JoinHandle<()>,
}

impl Readers {
    /// Gives a session the device in place of the socket on which it has answered the first question. As many threads as `count` will
    /// read it.
    pub(super) fn take<F: Filesystem>(
        session: &Session<F>,
        connection: Arc<Connection>,
        count: usize,
    ) -> io::Result<Self> {
        let readers = Self {
            place: session.as_fd().as_raw_fd(),
            _open: session.notifier(),
            count,
            connection,
            passing: OnceLock::new(),
        };
        readers.put_in_place(readers.connection.descriptor())?;
        Ok(readers)
    }

    /// The connection that they serve.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Has all readers end, after what they have read. Answers still reach the kernel.
    ///
    /// # Errors
    /// If the system refuses sockets or a thread. The readers may go on then.
    pub fn dismiss(&self) -> io::Result<()> {
        let (near, far) = socket_pair()?;
        for _ in 0..self.count {
            nix::unistd::write(&far, &farewell())?;
        }
        let connection = Arc::clone(&self.connection);
        let thread = thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || pass_on(&far, &connection))?;
        self.put_in_place(near.as_fd())?;
        // There is one end of a process.
        let _first = self.passing.set(Passing { near, thread });
        wake_up()
    }

    /// Waits until everything that was read is answered, while `is_busy` says that there is more, and keeps that for the next process.
    /// Call it when the loop has returned.
    pub fn settle(&self, patience: Duration, is_busy: impl Fn() -> bool) {
        let deadline = Instant::now() + patience;
        let Some(passing) = self.passing.get() else {
            return;
        };
        while is_busy() && pause_until(deadline) {}
        let is_answered = !is_busy();
        // Behind all answers.
        let is_told = nix::unistd::write(&passing.near, &[0]).is_ok();
        while is_told && !passing.thread.is_finished() && pause_until(deadline) {}
        if is_answered
            && passing.thread.is_finished()
            && let Err(error) = self.connection.settle()
        {
            tracing::debug!(%error, "the next process does not learn that all is answered");
        }
    }

    fn put_in_place(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the library has a descriptor of this number and keeps it open for as long as `_open` lives. It is not closed here.
        let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.place) });
        Ok(nix::unistd::dup3(descriptor, &mut place, OFlag::O_CLOEXEC)?)
    }
}

/// Passes answers on to the kernel, until something comes that is none.
fn pass_on(far: &OwnedFd, connection: &Connection) {
    let mut answer = vec![0; ANSWER_SIZE];
    while let Ok(size) = nix::unistd::read(far, &mut answer)
        && size > 1
    {
        // Fails for the answer to a farewell, and for one that nobody waits for any more.
        let _sent = nix::unistd::write(connection.descriptor(), &answer[..size]);
    }
}

/// A request in the form of the kernel: size, operation, its number, and what is of no interest here.
#[expect(
    clippy::host_endian_bytes,
    reason = "FUSE speaks the byte order of the host"
)]
fn farewell() -> [u8; 40] {
    let mut request = [0; 40];
    request[..4].copy_from_slice(&40u32.to_ne_bytes());
    request[4..8].copy_from_slice(&FUSE_DESTROY.to_ne_bytes());
    request[8..16].copy_from_slice(&FAREWELL_ID.to_ne_bytes());
    request
}

/// Interrupts the system calls in which readers wait.
fn wake_up() -> io::Result<()> {
    extern "C" fn do_nothing(_signal: libc::c_int) {}

    let handler = SigHandler::Handler(do_nothing);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which is safe at any moment.
    unsafe { sigaction(WAKE_UP, &action)? };
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let id = task.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(id) = id.filter(|_| name.starts_with(READER_NAME)) {
            wake_up_thread(id)?;
        }
    }
    Ok(())
}

fn wake_up_thread(id: libc::pid_t) -> io::Result<()> {
    // SAFETY: three numbers; the kernel finds no thread of this process if the thread has ended.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, WAKE_UP as i32) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits a moment. Returns whether there is time for more.
fn pause_until(deadline: Instant) -> bool {
    // Interrupted or not, the caller looks again.
    let _slept = nix::poll::poll(&mut [], PollTimeout::from(PAUSE_MS));
    Instant::now() < deadline
}
