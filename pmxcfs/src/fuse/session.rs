//! The session loop: reads requests from the kernel until the mount is gone.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use fuser::{Config, Session, SessionACL};

use super::PveFilesystem;

/// Bounds of the number of threads that read requests, one for each processor between them. Handlers never wait, so a few keep
/// any number of callers busy. The kernel wakes them in turns: more threads than processors share nothing but cache misses (on two
/// processors, four readers got 83 to 94 % of a one-thread filesystem's rate with four threads, 100 % with two), while with just
/// one a caller's answer waits for the other processor to wake up.
const THREADS: RangeInclusive<usize> = 2..=4;

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
    config.n_threads = Some(thread_count());
    config.clone_fd = true;
    config.acl = SessionACL::All;
    let references = filesystem.kernel_references();
    let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
    references.attach(session.notifier());
    let thread = thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || ended(session.run()))?;
    Ok(FuseSession { thread })
}

fn thread_count() -> usize {
    let processors = thread::available_parallelism().map_or(*THREADS.start(), NonZero::get);
    processors.clamp(*THREADS.start(), *THREADS.end())
}
