//! Keeping daemons away from a database, with the daemon's own lock.
//!
//! A daemon only ever uses files called `config.db`, and holds the lock file beside it while it lives. Files of other
//! names are copies: no daemon writes to them, and their directory is not littered with lock files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pmxcfs_api_types::files::directory_of;
use pmxcfs_config::PathOptions;
use pmxcfs_memdb::store::Access;

use crate::daemon::instance::holder;

/// How a command uses a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads it while nobody writes to it. The lock is shared with other readers.
    Read,
    /// As `Read`, or beside a daemon that holds the lock.
    ReadLive,
    /// Writes it, or makes it.
    Write,
}

/// A database that nobody else writes to while this lives, unless its access is [`Access::Live`].
#[derive(Debug)]
pub(super) struct Lock {
    /// Where the database really is, links resolved.
    pub(super) database: PathBuf,
    pub(super) access: Access,
    file: Option<File>,
}

impl Lock {
    /// Takes the daemon's lock.
    pub(super) fn take(database: &Path, purpose: Use) -> anyhow::Result<Self> {
        let mut lock = Self {
            database: match purpose {
                Use::Write => resolve(database)?,
                Use::Read | Use::ReadLive => fs::canonicalize(database)
                    .with_context(|| format!("cannot find the database {}", database.display()))?,
            },
            access: Access::Idle,
            file: None,
        };
        let Some(path) = lock_file(&lock.database) else {
            return Ok(lock);
        };
        let writes = purpose == Use::Write;
        let opened = OpenOptions::new()
            .read(!writes)
            .append(writes)
            .create(writes)
            .mode(0o600)
            .open(&path);
        let file = match opened {
            // Every daemon makes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !writes => return Ok(lock),
            opened => {
                opened.with_context(|| format!("cannot open the lock file {}", path.display()))?
            }
        };
        let locked = match writes {
            true => file.try_lock(),
            false => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => lock.file = Some(file),
            Err(TryLockError::WouldBlock) if purpose == Use::ReadLive => lock.access = Access::Live,
            Err(TryLockError::WouldBlock) => bail!(
                "{} is in use: {}; stop that first (systemctl stop pve-cluster){}",
                lock.database.display(),
                holder(&file, &path),
                match writes {
                    true => "",
                    false => ", or read the state of the last commit with --live",
                }
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(lock)
    }

    /// Whether daemons are kept away, so that no living process owns the files around the database.
    pub(super) const fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

/// Path with all links resolved; the last name need not exist.
pub(super) fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    if let Ok(found) = fs::canonicalize(path) {
        return Ok(found);
    }
    let name = path
        .file_name()
        .with_context(|| format!("{} is no name of a file", path.display()))?;
    let directory = directory_of(path);
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("cannot find the directory {}", directory.display()))?;
    Ok(directory.join(name))
}

/// The daemon's lock file for a database with a resolved path, if it is one that a daemon could use.
fn lock_file(database: &Path) -> Option<PathBuf> {
    let options = PathOptions {
        state_dir: Some(database.parent()?.to_owned()),
        ..PathOptions::default()
    };
    let paths = options.paths();
    (paths.database() == database).then(|| paths.lock_file())
}
