//! Services: tasks that connect, fail and are tried again.
//!
//! A [`Service`] runs until it fails or is told to stop. The [`Manager`] starts it again after a growing pause, says so once and
//! then rarely, stops services in the reverse order of their start, and can be asked how each one is.

mod backoff;
mod manager;
mod service;

pub use manager::Manager;
pub use service::{Context, Failure, Service, ServiceState};
