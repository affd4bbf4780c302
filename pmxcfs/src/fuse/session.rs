//! The session loop: reads requests from the kernel until the mount is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use fuser::{Config, Session, SessionACL};

use super::PveFilesystem;

/// Most threads that read requests. Handlers never wait, so a few keep any number of callers busy.
const MAX_THREAD_COUNT: usize = 4;

/// Half of the processors: a request wakes a reader on another processor than the caller's, and readers that are woken in
/// turn keep no cache warm. On two processors one thread is the fastest for a single caller and as fast for four.
fn thread_count() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, MAX_THREAD_COUNT)
}

/// A served mount.
#[derive(Debug)]
pub struct FuseSession {
    thread: JoinHandle<()>,
}

impl FuseSession {
    /// Whether the kernel has closed the connection and every handler has returned.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts to serve a mounted connection. `ended` is called once, from the session's thread, when the connection is closed:
/// after an unmount and the last close of a file in it.
///
/// # Errors
/// If the kernel and the library cannot agree on the protocol, or a thread cannot be started.
pub fn serve(
    filesystem: PveFilesystem,
    connection: OwnedFd,
    ended: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<FuseSession> {
    let mut config = Config::default();
    let count = thread_count();
    config.n_threads = Some(count);
    config.clone_fd = count > 1;
    config.acl = SessionACL::All;
    let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
    let thread = std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || ended(session.run()))?;
    Ok(FuseSession { thread })
}
