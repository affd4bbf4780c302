//! The daemon's options and the identity of its host.
//!
//! [`Config`] is what the rest of the daemon sees: it does not know whether a path came from the command line or is the
//! C daemon's default. Nothing here reads a file of the tree.

mod config;
mod corosync_version;
mod node;
mod paths;

pub use config::Config;
pub use corosync_version::config_version;
pub use node::{admin_gid, node_address, node_name};
pub use paths::{PathOptions, Paths};
