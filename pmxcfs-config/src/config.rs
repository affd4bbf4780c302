//! The daemon's configuration as given.

use std::net::IpAddr;

use crate::Paths;

/// Everything the daemon was told or found out before it opened its database.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where things are.
    pub paths: Paths,
    /// Host name up to the first dot.
    pub node_name: String,
    /// Address of the node name. `None` only in local mode on a host that resolves to loopback alone.
    pub node_address: Option<IpAddr>,
    /// Group of everything in the mount and of the run directory.
    pub admin_gid: u32,
    /// Local mode was asked for: `corosync.conf` in the database is ignored and the node counts as quorate.
    pub force_local: bool,
    /// Log debug messages from the start.
    pub debug: bool,
    /// Name of the IPC service.
    pub ipc_name: String,
}
