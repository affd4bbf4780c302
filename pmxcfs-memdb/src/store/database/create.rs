//! Writing a whole database at once, for tools that run without a daemon.
//!
//! The database is built under another name and renamed when it is complete and on disk: there is never half of it, and
//! what was there before stays until then.

use std::fs;
use std::io;
use std::path::Path;

use pmxcfs_api_types::files::{has_content, sync_directory_of, with_suffix};

use super::schema;
use super::sqlite::SqliteBackend;
use crate::store::error::{StoreError, cannot};
use crate::store::medium::{Backend, BackendError, Origin};
use crate::{Entry, RootState};

/// Writes a database of these entries, mode 0600, in place of what is at `path`. The caller sees to it that no daemon
/// uses it, by holding the daemon's lock file.
///
/// # Errors
/// [`StoreError`]; what is at `path` stays as it was. A log beside it says that it is in use.
pub fn create(path: &Path, root: RootState, entries: &[Entry]) -> Result<(), StoreError> {
    if has_content(&schema::wal_path(path)) {
        return Err(StoreError::new(format!(
            "{} is in use, or its last user was killed: start and stop the daemon first",
            path.display()
        )));
    }
    let draft = with_suffix(path, format!(".new-{}", std::process::id()));
    // A program of the same number may have died here.
    remove(&draft);
    let result = schema::open(&draft).map(drop).and_then(|()| {
        fill(&draft, root, entries).map_err(cannot("write", &draft))?;
        replace(&draft, path).map_err(cannot("replace", path))
    });
    if result.is_err() {
        remove(&draft);
    }
    result
}

/// Removes a database that nobody uses. Most of its files were never made.
fn remove(draft: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _result = fs::remove_file(with_suffix(draft, suffix));
    }
}

fn fill(draft: &Path, root: RootState, entries: &[Entry]) -> Result<(), BackendError> {
    let mut backend = Box::new(SqliteBackend::open(draft)?);
    backend.begin()?;
    for entry in entries {
        backend.put(entry)?;
    }
    backend.put_root(root, Origin::Operations)?;
    backend.commit()?;
    backend.sync()?;
    backend.close()
}

fn replace(draft: &Path, path: &Path) -> io::Result<()> {
    fs::rename(draft, path)?;
    sync_directory_of(path)
}
