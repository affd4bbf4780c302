//! What the test files share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses a part of it"
)]

pub mod harness;
pub mod qb;
pub mod service;
