//! The daemon's life: start and stop in order, signals, the files that show that it runs, its messages to the service manager.

pub mod background;
mod control;
mod database;
mod documents;
pub mod environment;
pub mod handover;
pub mod instance;
mod memory;
mod mounting;
pub mod notify;
mod restart;
pub(crate) mod runtimes;
pub(crate) mod signals;
mod start;
mod stop;
mod watchdog;

pub use start::{Launch, start};
pub use stop::Daemon;
