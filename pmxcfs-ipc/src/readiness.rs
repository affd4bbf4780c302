//! Sockets whose readiness a task can wait for.
#![expect(
    unsafe_code,
    reason = "tokio asks for a promise about the descriptor's life"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a socket for input, edge-triggered. To be called in the context of a runtime.
pub(crate) fn watch<S: AsRawFd + Into<OwnedFd>>(socket: S) -> io::Result<AsyncFd<S>> {
    // SAFETY: a type that turns into an owned descriptor keeps the same one open until it is dropped or taken out of
    // the registration.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
