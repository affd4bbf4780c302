//! Real daemons for tests, the demonstration and the benchmark.
//!
//! Everything here talks to a pmxcfs process from the outside: through its mount, its database file, its signals and
//! its IPC service by way of the libqb that clients use. Nothing is linked with the daemon's own crates, so a mistake
//! that both ends of a format share still shows.

pub mod check;
mod children;
pub mod cluster;
pub mod cost;
pub mod daemon;
pub mod database;
pub mod identity;
pub mod ipc_client;
mod manager;
pub mod over;
pub mod proc;
pub mod raw;
mod signals;
mod tell;
pub mod wait;
mod watchdog;

pub use check::Check;
pub use cluster::{Cluster, ClusterHost};
pub use daemon::{Daemon, Host, Supervisor};
pub use ipc_client::IpcClient;
pub use over::Over;
pub use tell::tell;
