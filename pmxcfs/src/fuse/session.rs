//! The FUSE loop: reads requests from the kernel until the connection ends.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use tokio::runtime::Handle;

use super::PveFilesystem;

/// Bounds of the number of threads that read requests, one for each processor between them. Handlers never wait, so a few keep
/// any number of callers busy. The kernel wakes them in turns: more threads than processors share nothing but cache misses (on two
/// processors, four readers got 83 to 94 % of a one-thread filesystem's rate with four threads, 100 % with two), while with just
/// one a caller's answer waits for the other processor to wake up.
const THREADS: RangeInclusive<usize> = 2..=4;

/// The kernel's number of the notification that makes it forget what it knows of a node id.
const FUSE_NOTIFY_INVAL_INODE: u32 = 2;

/// An offset that stands for the attributes alone. Forgetting them takes no lock in the kernel that a request could hold.
const ATTRIBUTES: i64 = -1;

/// Pauses before the kernel is told again, the longest ones as long as it believes what it was told before.
const AGAIN_MS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A mount that can be served.
pub struct FuseSession(Session<PveFilesystem>);

impl FuseSession {
    /// Agrees with the kernel on the protocol of a mounted connection. `runtime` repeats what the kernel could not take in.
    ///
    /// # Errors
    /// If they cannot.
    pub fn new(
        filesystem: PveFilesystem,
        connection: OwnedFd,
        runtime: Handle,
    ) -> io::Result<Self> {
        let mut config = Config::default();
        config.n_threads = Some(thread_count());
        config.clone_fd = true;
        config.acl = SessionACL::All;
        let fs = Arc::clone(&filesystem.fs);
        let device = Arc::new(connection.try_clone()?);
        let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
        fs.on_changed_attributes(move |id| {
            if forget_attributes(&device, id) == Err(Errno::ENOENT) {
                runtime.spawn(forget_attributes_soon(Arc::clone(&device), id));
            }
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

/// Makes the kernel ask anew for the attributes of a node id.
///
/// The FUSE library has a function for this, which takes `ENOENT` for a success.
#[expect(
    clippy::host_endian_bytes,
    reason = "FUSE speaks the byte order of the host"
)]
fn forget_attributes(device: &OwnedFd, id: u64) -> nix::Result<()> {
    let mut message = [0; 40];
    message[..4].copy_from_slice(&40u32.to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_NOTIFY_INVAL_INODE.to_ne_bytes());
    message[16..24].copy_from_slice(&id.to_ne_bytes());
    message[24..32].copy_from_slice(&ATTRIBUTES.to_ne_bytes());
    nix::unistd::write(device, &message).map(drop)
}

/// The same, some times, until the kernel knows the node id.
///
/// A kernel that does not know it has forgotten it, or the answer that names it first is still on its way, with attributes that have
/// changed since.
async fn forget_attributes_soon(device: Arc<OwnedFd>, id: u64) {
    for pause_ms in AGAIN_MS {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        if forget_attributes(&device, id) != Err(Errno::ENOENT) {
            return;
        }
    }
}

fn thread_count() -> usize {
    let processors = thread::available_parallelism().map_or(*THREADS.start(), NonZero::get);
    processors.clamp(*THREADS.start(), *THREADS.end())
}
