//! Waiting for a connection of a C library without a thread.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

    /// Waits until there is something to dispatch. What the runtime remembers is checked against the descriptor, so it does
    /// not matter how much of what was there has been taken.
    pub(super) async fn wait(&self) -> std::io::Result<()> {
        loop {
            let mut guard = self.0.readable().await?;
            if self.is_ready()? {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    #[expect(
        unsafe_code,
        reason = "a descriptor of a C library cannot be owned here"
    )]
    fn is_ready(&self) -> std::io::Result<bool> {
        // SAFETY: the connection that owns the descriptor outlives this value, see the type.
        let fd = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}
