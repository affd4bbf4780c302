//! The daemon's life: start and stop in order, signals, the files that show that it runs, its messages to the service manager.

pub mod background;
mod control;
mod database;
mod documents;
pub mod instance;
pub mod liveness;
mod memory;
pub mod notify;
pub(crate) mod runtimes;
mod signals;
mod start;
mod stop;

pub use start::start;
pub use stop::Daemon;
