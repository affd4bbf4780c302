//! Notices a log that does not belong to the database beside it: a restored file, and the log that was left.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rusqlite::Connection;

use super::database::schema;
use super::read_only;

/// A database that was put beside the log of another one, or of another state of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} has version {stored}, and its log {path}-wal makes that {logged}, but the log was last written before the file \
     was put here: it belongs to another state, and is laid over the file when somebody opens it. If the file was \
     restored, move {path}-wal and {path}-shm away before the daemon starts; if not, keep a copy of all of them first",
    path = database.display()
)]
pub struct ForeignLog {
    /// The database.
    pub database: PathBuf,
    /// Highest version in the file alone.
    pub stored: u64,
    /// Highest version in the file with its log.
    pub logged: u64,
}

/// How much later a file may have been written than its log.
const LOG_SLACK: Duration = Duration::from_secs(10);

/// Whether SQLite's log beside a database that nobody uses cannot be its own: the log makes the version lower, or makes it
/// another one although the file was written or made after it. Nothing is applied and nothing is changed.
pub fn foreign_log(database: &Path) -> Option<ForeignLog> {
    let log = fs::metadata(schema::wal_path(database)).ok()?;
    let file = fs::metadata(database).ok()?;
    // SQLite removes the log of an empty file when it opens it.
    if log.len() == 0 || file.len() == 0 {
        return None;
    }
    let highest = |connection: Connection| -> rusqlite::Result<i64> {
        connection.query_row(
            "SELECT max(max(inode), max(version)) FROM tree",
            [],
            |row| row.get(0),
        )
    };
    let stored = highest(read_only::open_alone(database).ok()?).map_or(0, i64::cast_unsigned);
    let logged = highest(read_only::open_shared(database).ok()?)
        .ok()?
        .cast_unsigned();
    let is_later = |file: io::Result<SystemTime>, log: io::Result<SystemTime>| {
        file.is_ok_and(|file| log.is_ok_and(|log| file > log + LOG_SLACK))
    };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(log.ctime()).unwrap_or(0));
    let is_foreign = logged < stored
        || logged != stored
            && (is_later(file.modified(), log.modified()) || is_later(file.created(), Ok(changed)));
    is_foreign.then(|| ForeignLog {
        database: database.to_owned(),
        stored,
        logged,
    })
}
