//! Waiting for a connection of a C library without a thread.

use std::os::fd::{AsRawFd, RawFd};

use rust_corosync::CsError;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::CorosyncError;

/// A descriptor that the C library owns. Must be dropped before the connection is closed.
#[derive(Debug)]
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Readiness of a connection. Its descriptor must stay open for as long as this lives.
#[derive(Debug)]
pub(super) struct Readiness(AsyncFd<Descriptor>);

impl Readiness {
    /// To be called within a tokio runtime.
    #[expect(
        unsafe_code,
        reason = "a descriptor of a C library cannot be owned here"
    )]
    pub(super) fn new(fd: RawFd) -> Result<Self, CorosyncError> {
        // SAFETY: the connection that owns the descriptor is dropped after this value, and never replaces it.
        let readiness =
            unsafe { AsyncFd::register_with_interest(Descriptor(fd), Interest::READABLE) };
        match readiness {
            Ok(readiness) => Ok(Self(readiness)),
            Err(_) => Err(CorosyncError::new("epoll_ctl", CsError::CsErrNoResources)),
        }
    }

    /// Waits until there is something, and takes it with `take`, which must leave nothing behind. No other task runs between
    /// the two, so nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// Those of `take`, or the runtime ends.
    pub(super) async fn receive<T>(
        &self,
        take: impl Fn() -> Result<T, CorosyncError>,
    ) -> Result<T, CorosyncError> {
        let Ok(mut guard) = self.0.readable().await else {
            return Err(CorosyncError::new("epoll_wait", CsError::CsErrLibrary));
        };
        let taken = take();
        // Later arrivals make the descriptor ready again.
        guard.clear_ready();
        taken
    }
}
