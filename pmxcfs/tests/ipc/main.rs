//! The IPC operations without a transport: what a C daemon answered, and what clients cannot do to the daemon.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod daemon;
mod golden;
mod operations;
