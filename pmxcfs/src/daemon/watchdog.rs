//! Whether the daemon serves its mount, for the watchdog of the service manager.
//!
//! Nothing here asks the mount: the manager keeps the connection, so a thread that waits for an answer of its own process could
//! not be killed, and the manager could not start the daemon anew. Instead, two things must hold. Requests that wait in
//! the kernel are read; and the tree, which every answer needs, can be locked.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pmxcfs_memdb::MemDb;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::health::FuseOperation;
use crate::health::counters::Meter;

/// Time between two looks.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long requests may wait while none is read, and how long a lock may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What earlier looks have seen.
pub(super) struct Watchdog {
    db: Arc<MemDb>,
    requests: &'static Meter<FuseOperation>,
    /// The number of requests that had been read when one was first seen waiting, and when that was.
    unread: Option<(u64, Instant)>,
    /// A thread that locks the tree for a moment.
    locking: Option<(JoinHandle<()>, Instant)>,
}

impl Watchdog {
    pub(super) fn new(db: Arc<MemDb>, requests: &'static Meter<FuseOperation>) -> Self {
        Self {
            db,
            requests,
            unread: None,
            locking: None,
        }
    }

    /// Looks again, on a runtime. Returns whether the daemon serves as far as one can see. Never waits.
    pub(super) fn look(&mut self, device: BorrowedFd<'_>) -> bool {
        let now = Instant::now();
        let is_read = self.is_read(device, now);
        self.is_lockable(now) && is_read
    }

    /// A device that is readable at each look may be so because of many requests: they count as read while their number grows.
    fn is_read(&mut self, device: BorrowedFd<'_>, now: Instant) -> bool {
        let mut polled = [PollFd::new(device, PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::ZERO) != Ok(1) {
            self.unread = None;
            return true;
        }
        let read_count = self.requests.begun();
        match self.unread {
            Some((before, since)) if before == read_count => now - since <= PATIENCE,
            _ => {
                self.unread = Some((read_count, now));
                true
            }
        }
    }

    fn is_lockable(&mut self, now: Instant) -> bool {
        match &self.locking {
            Some((thread, since)) if !thread.is_finished() => now - *since <= PATIENCE,
            _ => {
                let db = Arc::clone(&self.db);
                let lock = move || drop(db.read());
                self.locking = Some((spawn_blocking(lock), now));
                true
            }
        }
    }
}
