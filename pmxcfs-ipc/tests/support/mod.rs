//! What the test files share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "every test file uses a part of it, and some are their own test runner"
)]

pub mod client;
pub mod fault;
pub mod harness;
pub mod qb;
pub mod raw;
pub mod runtime;
pub mod service;
pub mod target;
