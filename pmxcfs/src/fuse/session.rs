//! The FUSE loop: reads requests from the kernel until the connection ends.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use fuser::{Config, INodeNo, Session, SessionACL};

use super::PveFilesystem;

/// Bounds of the number of threads that read requests, one for each processor between them. Handlers never wait, so a few keep
/// any number of callers busy. The kernel wakes them in turns: more threads than processors share nothing but cache misses (on two
/// processors, four readers got 83 to 94 % of a one-thread filesystem's rate with four threads, 100 % with two), while with just
/// one a caller's answer waits for the other processor to wake up.
const THREADS: RangeInclusive<usize> = 2..=4;

/// An offset that stands for the attributes alone. Forgetting them takes no lock in the kernel that a request could hold.
const ATTRIBUTES: i64 = -1;

/// A mount that can be served.
pub struct FuseSession(Session<PveFilesystem>);

impl FuseSession {
    /// Agrees with the kernel on the protocol of a mounted connection.
    ///
    /// # Errors
    /// If they cannot.
    pub fn new(filesystem: PveFilesystem, connection: OwnedFd) -> io::Result<Self> {
        let mut config = Config::default();
        config.n_threads = Some(thread_count());
        config.clone_fd = true;
        config.acl = SessionACL::All;
        let fs = Arc::clone(&filesystem.fs);
        let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
        let notifier = session.notifier();
        fs.on_changed_attributes(move |id| {
            // If the kernel has forgotten the node id by now, or is unmounting, there is nobody to tell.
            let _told = notifier.inval_inode(INodeNo(id), ATTRIBUTES, 0);
        });
        Ok(Self(session))
    }

    /// The FUSE loop: returns when the connection is aborted, or after an unmount and the last close of a file in it.
    ///
    /// # Errors
    /// If requests cannot be read any more for another reason.
    pub fn run(self) -> io::Result<()> {
        self.0.run()
    }
}

fn thread_count() -> usize {
    let processors = thread::available_parallelism().map_or(*THREADS.start(), NonZero::get);
    processors.clamp(*THREADS.start(), *THREADS.end())
}
