//! The database file: how it is opened, its table, and what identifies it.
//!
//! The file is shared with C daemons (before and after this one ran) and with operators' `sqlite3`, so table, row
//! format and modes are fixed; see the table in the documentation of [`TABLE`].

use std::error::Error;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmxcfs_api_types::files::{create_private, with_suffix};
use pmxcfs_api_types::time::wall_clock_secs;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::RootState;
use crate::store::error::{StoreError, cannot};

/// The statement that makes the table, in the C daemon's words.
///
/// | column | meaning |
/// |---|---|
/// | inode | identity of the entry, u64 as its i64 bit pattern; 0 is the version row |
/// | parent | inode of the directory, 0 for the root |
/// | version, writer, mtime | of the entry's last change; in the version row of the last change at all |
/// | type | 4 directory, 8 file; the version row has 8, or 4 after a C daemon applied a sync |
/// | name | one path component, any bytes but `/` and NUL; `__version__` in the version row |
/// | data | content of a file, NULL when empty; NULL (or a zero-length blob) otherwise |
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS tree (\
    \x20 inode INTEGER PRIMARY KEY NOT NULL,\
    \x20 parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),\
    \x20 version INTEGER NOT NULL CHECK(typeof(version)=='integer'),\
    \x20 writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),\
    \x20 mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),\
    \x20 type INTEGER NOT NULL CHECK(typeof(type)=='integer'),\
    \x20 name TEXT NOT NULL,\
    \x20 data BLOB)";

/// Name of the version row.
pub(crate) const VERSION_ROW_NAME: &str = "__version__";

/// Type of the version row after operations.
pub(crate) const VERSION_ROW_KIND: i64 = 8;

/// Type of the version row after a sync.
pub(crate) const SYNCED_ROW_KIND: i64 = 4;

/// Mode of the database; SQLite gives its companions the same.
const FILE_MODE: u32 = 0o600;

/// How long opening waits for a process that holds the database.
const OPEN_BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open database.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// The root state as stored in a database that was given its first version row just now.
    pub(crate) initialised: Option<RootState>,
}

/// Opens the database, makes it where it is missing, and sees to mode, table and version row of a new one.
pub(crate) fn open(path: &Path) -> Result<Opened, StoreError> {
    let is_empty = prepare_file(path).map_err(cannot("create or set the mode of", path))?;
    open_file(path, is_empty).map_err(cannot("open the database", path))
}

fn open_file(path: &Path, is_empty: bool) -> Result<Opened, Box<dyn Error + Send + Sync>> {
    let connection = connect(path)?;
    busy_timeout(&connection, OPEN_BUSY_TIMEOUT)?;
    if is_empty {
        // Nothing can be lost yet, and each of the three syncs of making an empty file durable costs milliseconds.
        connection.pragma_update(None, "synchronous", "OFF")?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(format!("unable to set WAL mode: it stays in mode {mode}").into());
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(Opened {
        initialised: initialise(&connection)?,
        connection,
    })
}

/// Opens a database that [`open`] has seen before, for the thread that writes it: never waits for a lock, never
/// checkpoints by itself, and leaves the checkpoint at close to an orderly shutdown.
pub(crate) fn open_for_writing(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    busy_timeout(&connection, Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // A file's whole content can be dirty at once; spilling it to the log early would write it twice. The rows of a
    // synchronisation can be many times as large, and go to the log before they are all there.
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_row| Ok(()))?;
    // The log is cut to its live part whenever it starts over, so its length on disk is its true length.
    connection.pragma_update_and_check(None, "journal_size_limit", 0, |_row| Ok(()))?;
    Ok(connection)
}

/// Chooses whether closing the connection folds the log in and removes it.
pub(crate) fn checkpoint_at_close(connection: &Connection, enabled: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !enabled)?;
    Ok(())
}

/// Path of the write-ahead log of a database.
pub(crate) fn wal_path(database: &Path) -> PathBuf {
    with_suffix(database, "-wal")
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    checkpoint_at_close(&connection, false)?;
    Ok(connection)
}

/// As `Connection::busy_timeout`, which needs a newer SQLite than Debian 12 has.
fn busy_timeout(connection: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    connection.pragma_update_and_check(None, "busy_timeout", timeout_ms, |_row| Ok(()))
}

/// Makes the file where it is missing and sets its mode, before SQLite opens it: never readable for others, and no
/// descriptor of ours is closed while SQLite holds locks. Returns whether it is empty.
fn prepare_file(path: &Path) -> io::Result<bool> {
    create_private(path)
        .map(drop)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })?;
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
    Ok(fs::metadata(path)?.len() == 0)
}

/// Makes the table and, if there is no row at all, the version row.
fn initialise(connection: &Connection) -> rusqlite::Result<Option<RootState>> {
    let known = connection.table_exists(None, "tree")?;
    if known && connection.query_row("SELECT EXISTS (SELECT 1 FROM tree)", [], |row| row.get(0))? {
        return Ok(None);
    }
    let root = RootState {
        version: 1,
        writer: 0,
        mtime: wall_clock_secs(),
    };
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLE)?;
    connection.execute(
        "INSERT INTO tree (inode, parent, version, writer, mtime, type, name) VALUES (0, 0, ?1, ?2, ?3, ?4, ?5)",
        (1_i64, root.writer, root.mtime, VERSION_ROW_KIND, VERSION_ROW_NAME),
    )?;
    connection.execute_batch("COMMIT")?;
    Ok(Some(root))
}
