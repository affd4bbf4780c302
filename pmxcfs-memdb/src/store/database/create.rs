//! Writing a whole database at once, for tools that run without a daemon.
//!
//! The database is built under another name and renamed when it is complete and on disk: there is never half of it, and
//! what was there before stays until then.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::schema::{self, OpenError};
use super::sqlite::SqliteBackend;
use crate::store::medium::{Backend, BackendError, Origin};
use crate::{Entry, RootState};

/// Why no database was written. What was there is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// SQLite's log lies beside the database: it is in use, or was not closed in good order.
    #[error("{} is in use, or its last user was killed: start and stop the daemon first", .0.display())]
    InUse(PathBuf),
    /// The new file cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new file cannot be written.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The new file cannot be put in place.
    #[error("cannot replace {}", path.display())]
    Replace {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes a database of these entries, mode 0600, in place of what is at `path`. The caller sees to it that no daemon
/// uses it, by holding the daemon's lock file.
///
/// # Errors
/// [`CreateError`].
pub fn create(path: &Path, root: RootState, entries: &[Entry]) -> Result<(), CreateError> {
    if fs::metadata(schema::wal_path(path)).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(CreateError::InUse(path.to_owned()));
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let result = build(&draft, root, entries).and_then(|()| {
        replace(&draft, path).map_err(|source| CreateError::Replace {
            path: path.to_owned(),
            source,
        })
    });
    if result.is_err() {
        for suffix in ["", "-wal", "-shm"] {
            let mut leftover = draft.as_os_str().to_owned();
            leftover.push(suffix);
            // Most of them were never made.
            let _result = fs::remove_file(leftover);
        }
    }
    result
}

fn build(draft: &Path, root: RootState, entries: &[Entry]) -> Result<(), CreateError> {
    drop(schema::open(draft)?);
    let mut backend = Box::new(SqliteBackend::open(draft)?);
    backend.begin()?;
    for entry in entries {
        backend.put(entry)?;
    }
    backend.put_root(root, Origin::Operations)?;
    backend.commit()?;
    backend.sync()?;
    Ok(backend.close()?)
}

fn replace(draft: &Path, path: &Path) -> io::Result<()> {
    fs::rename(draft, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
