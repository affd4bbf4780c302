//! The daemon's configuration as given.

use std::net::IpAddr;

use crate::Paths;

/// The options and the host's identity, as the daemon knows them before it opens its database.
#[derive(Debug, Clone)]
pub struct Config {
    /// The daemon's paths.
    pub paths: Paths,
    /// Host name up to the first dot.
    pub node_name: String,
    /// Address of the node name. `None` only in local mode on a host that resolves to loopback alone.
    pub node_address: Option<IpAddr>,
    /// Group of everything in the mount and of the run directory.
    pub admin_gid: u32,
    /// Local mode was asked for: `corosync.conf` in the database is ignored and the node counts as quorate.
    pub force_local: bool,
    /// Name of the IPC service.
    pub ipc_name: String,
}
