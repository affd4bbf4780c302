//! Keeps the host's corosync.conf equal to the one in the database.
//!
//! Every member writes its own host's file, and the member that sent the change tells corosync afterwards. All members, C daemons
//! included, must decide alike which text they write, or they would run different configurations: so `config_version` alone
//! decides. Corosync itself reports what it finds wrong with a text.

mod distributor;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use pmxcfs_config::config_version;

pub(crate) use self::distributor::{Distributor, ReloadCommand};
use crate::replace_file::replace_file;

/// The two files, which this module keeps equal.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Path of the database's copy in the mount. Messages name it; nothing opens it.
    pub(crate) cluster: PathBuf,
    /// The file that corosync reads.
    pub(crate) host: PathBuf,
}

impl Files {
    /// Writes the database's copy to the host unless the host's version is higher, and logs the outcome. Returns whether
    /// corosync has a new configuration to read: it had one before, and this one is written.
    pub(crate) fn distribute(&self, database_copy: &[u8]) -> bool {
        let (cluster, host) = (self.cluster.display(), self.host.display());
        if database_copy.is_empty() {
            return false;
        }
        let Some(version) = config_version(database_copy) else {
            tracing::error!(
                "unable to parse cluster config_version: {cluster} has none; {host} stays as it is"
            );
            return false;
        };
        let present = read_host_file(&self.host);
        let present_version = config_version(&present);
        if present == database_copy {
            return false;
        }
        if let Some(present_version) = present_version.filter(|present| version < *present) {
            tracing::error!(
                "local corosync.conf is newer: {host} has config_version {present_version}, {cluster} has {version}; {host} stays as it is"
            );
            return false;
        }
        if let Err(error) = replace_file(&self.host, database_copy) {
            tracing::error!(%error, "unable to write corosync config '{host}'");
            return false;
        }
        tracing::info!("wrote new corosync config '{host}' (version = {version})");
        present_version.is_some()
    }
}

/// The host's text; an unreadable file counts as none, as with the C daemon.
fn read_host_file(path: &Path) -> Vec<u8> {
    match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot read the host's corosync config");
            }
            Vec::new()
        }
    }
}
