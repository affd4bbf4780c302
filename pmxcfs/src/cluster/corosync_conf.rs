//! Keeps the host's corosync.conf equal to the one in the database.
//!
//! Every member writes its own host's file, and the member that sent the change tells corosync afterwards. Which text is written
//! has to be decided as C daemons decide it, or members would run different configurations: so what is wrong with a text
//! is said in the log, and nothing else comes of it. Nothing here is done by the thread that delivers messages.

mod distributor;
#[cfg(test)]
mod tests;

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use pmxcfs_config::config_version;
use pmxcfs_config::corosync_conf::{Severity, Surroundings, check};

pub(crate) use self::distributor::{Distributor, ReloadCommand};

const MODE: u32 = 0o644;

/// What became of the database's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is nothing to write.
    Empty,
    /// It has no version.
    NoVersion,
    /// The host has the same bytes.
    Equal,
    /// The host's version is the higher one.
    HostIsNewer,
    /// The host's file could not be written.
    Failed,
    /// The host has it now.
    Written {
        /// Corosync has to be told.
        is_reload_due: bool,
    },
}

/// Writes the database's copy to the host if it is not older than the host's, and logs what comes of it. `notify` says that this
/// node is the one that tells corosync; that is due if the host had a configuration before.
pub(crate) fn distribute(
    database_copy: &[u8],
    host_file: &Path,
    node_name: &str,
    notify: bool,
) -> Outcome {
    if database_copy.is_empty() {
        return Outcome::Empty;
    }
    let Some(version) = config_version(database_copy) else {
        tracing::error!("unable to parse cluster config_version");
        return Outcome::NoVersion;
    };
    let present = read_host_file(host_file);
    let present_version = config_version(&present);
    if present == database_copy {
        return Outcome::Equal;
    }
    if present_version.is_some_and(|present| version < present) {
        tracing::error!("local corosync.conf is newer");
        return Outcome::HostIsNewer;
    }
    let surroundings = Surroundings {
        node_name,
        present_version,
    };
    log_findings(database_copy, &surroundings);
    let path = host_file.display();
    if let Err(error) = replace(host_file, database_copy) {
        tracing::error!(%error, "unable to write corosync config '{path}'");
        return Outcome::Failed;
    }
    tracing::info!("wrote new corosync config '{path}' (version = {version})");
    Outcome::Written {
        is_reload_due: notify && present_version.is_some(),
    }
}

/// A file that cannot be read counts as none, as with the C daemon: what can be written is what matters.
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

fn log_findings(text: &[u8], surroundings: &Surroundings<'_>) {
    for finding in check(text, surroundings) {
        let effect = match finding.severity() {
            Severity::Error | Severity::Refused => ", the cluster will not work with it",
            _ => "",
        };
        tracing::warn!("new corosync config{effect}: {finding}");
    }
}

/// Replaces the file in one step: corosync, when it starts meanwhile, reads the old text or the new one.
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
    written
}

fn write_all(mut file: File, text: &[u8]) -> io::Result<()> {
    fchown(&file, Some(0), Some(0))?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text)
}
