//! Keeps the host's corosync.conf equal to the one in the database.
//!
//! Every member writes its own host's file, and the member that sent the change tells corosync afterwards. All members, C daemons
//! included, must decide alike which text they write, or they would run different configurations: so `config_version` alone
//! decides. Corosync itself reports what it finds wrong with a text.

mod distributor;
#[cfg(test)]
mod tests;

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use pmxcfs_config::config_version;

pub(crate) use self::distributor::{Distributor, ReloadCommand};

const MODE: u32 = 0o644;

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
        if let Err(error) = replace(&self.host, database_copy) {
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

/// Replaces the file in one step: a corosync that starts meanwhile reads the old text or the new one, and so does a host that loses
/// its power. The new text is on the disk before it gets the name; when this returns, so is the name.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut template = path.as_os_str().to_owned();
    template.push(".XXXXXX");
    let (file, temporary) = nix::unistd::mkstemp(Path::new(&template))?;
    let written =
        write_all(File::from(file), text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _removed = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn write_all(mut file: File, text: &[u8]) -> io::Result<()> {
    fchown(&file, Some(0), Some(0))?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text)?;
    file.sync_all()
}
