//! What the test files share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "every test file uses a part of it, and some are their own test runner"
)]

pub mod harness;
pub mod qb;
pub mod raw;
pub mod service;
