//! The session loop: reads requests from the kernel until the mount is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use fuser::{Config, Session, SessionACL};

use super::PveFilesystem;

/// Threads that read requests. Handlers never wait, so a few keep any number of callers busy. Measured on two processors
/// with nothing else running: with four a single writer's request took 55 to 64 us, with one 95 to 115 us, most of it for
/// waking somebody up; four writers fared alike. On a busy machine one thread can be the faster choice.
const THREAD_COUNT: usize = 4;

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
    config.n_threads = Some(THREAD_COUNT);
    config.clone_fd = true;
    config.acl = SessionACL::All;
    let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
    let thread = std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || ended(session.run()))?;
    Ok(FuseSession { thread })
}
