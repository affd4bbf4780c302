//! The FUSE loop: reads requests from the kernel until the connection ends.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use tokio::runtime::Handle;

use super::connection::Connection;
use super::filesystem::PveFilesystem;
use super::readers::Readers;

/// Bounds of the number of threads that read requests, one for each processor between them. Handlers never wait, so a few keep
/// any number of callers busy. The kernel wakes them in turns: more threads than processors share nothing but cache misses (on two
/// processors, four readers got 83 to 94 % of a one-thread filesystem's rate with four threads, 100 % with two), while with just
/// one a caller's answer waits for the other processor to wake up.
const THREADS: RangeInclusive<usize> = 2..=4;

/// Pauses before the kernel is told again, the longest ones as long as it believes what it was told before.
const AGAIN_MS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A mount that can be served.
pub struct FuseSession(Session<PveFilesystem>);

impl FuseSession {
    /// Makes ready to serve a connection. `runtime` repeats what the kernel could not take in.
    ///
    /// The readers share one descriptor. One for each would be closed with the process, and the kernel would fail what was read by it.
    ///
    /// # Errors
    /// If the system refuses descriptors.
    pub fn new(
        filesystem: PveFilesystem,
        connection: Connection,
        runtime: Handle,
    ) -> io::Result<(Self, Readers)> {
        let mut config = Config::default();
        let count = thread_count();
        config.n_threads = Some(count);
        config.acl = SessionACL::All;
        let fs = Arc::clone(&filesystem.fs);
        let session = connection.session(filesystem, config)?;
        let connection = Arc::new(connection);
        let readers = Readers::take(&session, Arc::clone(&connection), count)?;
        fs.on_changed_attributes(move |id| {
            if connection.doubt_attributes(id) == Err(Errno::ENOENT) {
                runtime.spawn(forget_attributes_soon(Arc::clone(&connection), id));
            }
        });
        Ok((Self(session), readers))
    }

    /// The FUSE loop: returns when the connection is aborted, when the [`Readers`] are dismissed, or after an unmount and the last close
    /// of a file in it.
    ///
    /// # Errors
    /// If requests cannot be read any more for another reason.
    pub fn run(self) -> io::Result<()> {
        self.0.run()
    }
}

/// Makes the kernel ask anew for the attributes of a node id, some times, until it knows the node id.
///
/// A kernel that does not know it has forgotten it, or the answer that names it first is still on its way, with attributes that have
/// changed since.
async fn forget_attributes_soon(connection: Arc<Connection>, id: u64) {
    for pause_ms in AGAIN_MS {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        if connection.doubt_attributes(id) != Err(Errno::ENOENT) {
            return;
        }
    }
}

fn thread_count() -> usize {
    let processors = thread::available_parallelism().map_or(*THREADS.start(), NonZero::get);
    processors.clamp(*THREADS.start(), *THREADS.end())
}
