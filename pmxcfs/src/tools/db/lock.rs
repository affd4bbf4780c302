//! Keeping daemons away from a database, with the daemon's own lock.
//!
//! A daemon only ever uses files called `config.db`, and holds the lock file beside it while it lives. Files of other
//! names are copies: no daemon writes to them, and their directory is not littered with lock files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use pmxcfs_config::{PathOptions, Paths};
use pmxcfs_memdb::store::Access;

/// A database that nobody else writes to while this lives.
#[derive(Debug)]
pub(super) struct WriteLock {
    /// Where the database really is, links resolved.
    pub(super) database: PathBuf,
    file: Option<Flock<File>>,
}

impl WriteLock {
    /// Takes the daemon's lock.
    pub(super) fn take(database: &Path) -> anyhow::Result<Self> {
        let database = resolve(database)?;
        let file = match lock_file(&database) {
            None => None,
            Some(path) => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(&path)
                    .with_context(|| format!("cannot open the lock file {}", path.display()))?;
                Some(lock(file, FlockArg::LockExclusiveNonblock, &path)?.ok_or_else(|| {
                    anyhow!(
                        "{} is in use: a daemon or another pmxcfs-db holds {}; stop it first (systemctl stop pve-cluster)",
                        database.display(),
                        path.display()
                    )
                })?)
            }
        };
        Ok(Self { database, file })
    }

    /// Whether daemons are kept away, so that what lies around the database belongs to nobody alive.
    pub(super) const fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

/// A database that no daemon writes to while this lives, or one that is read beside a daemon.
#[derive(Debug)]
pub(super) struct ReadLock {
    /// Where the database really is, links resolved.
    pub(super) database: PathBuf,
    pub(super) access: Access,
    _file: Option<Flock<File>>,
}

impl ReadLock {
    /// Shares the daemon's lock with other readers. With `live` a daemon may hold it.
    pub(super) fn take(database: &Path, live: bool) -> anyhow::Result<Self> {
        let database = fs::canonicalize(database)
            .with_context(|| format!("cannot find the database {}", database.display()))?;
        let idle = |file| Self {
            database: database.clone(),
            access: Access::Idle,
            _file: file,
        };
        let Some(path) = lock_file(&database) else {
            return Ok(idle(None));
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Every daemon makes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(idle(None)),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot open the lock file {}", path.display()));
            }
        };
        match lock(file, FlockArg::LockSharedNonblock, &path)? {
            Some(file) => Ok(idle(Some(file))),
            None if live => Ok(Self {
                access: Access::Live,
                ..idle(None)
            }),
            None => Err(anyhow!(
                "{} is in use: a daemon or another pmxcfs-db holds {}; stop it first (systemctl stop pve-cluster), or \
                 read the state of the last commit with --live",
                database.display(),
                path.display()
            )),
        }
    }
}

/// The lock, unless somebody else has it.
fn lock(file: File, kind: FlockArg, path: &Path) -> anyhow::Result<Option<Flock<File>>> {
    match Flock::lock(file, kind) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Path with all links resolved; the file itself need not exist.
fn resolve(database: &Path) -> anyhow::Result<PathBuf> {
    if let Ok(found) = fs::canonicalize(database) {
        return Ok(found);
    }
    let name = database
        .file_name()
        .with_context(|| format!("{} is no name of a database", database.display()))?;
    let directory = database
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
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
    let paths = Paths::resolve(&options, Path::new("/"));
    (paths.database() == database).then(|| paths.lock_file())
}
