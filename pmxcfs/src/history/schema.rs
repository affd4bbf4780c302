//! `history.db`: its tables, and how it is opened.
//!
//! SQLite in WAL mode, beside `config.db`, mode 0600. `application_id` is [`APPLICATION_ID`], `user_version` is [`VERSION`]; a
//! file of another version is put aside. Integers above 2^63 are stored as their i64 bit pattern; paths are blobs, without a
//! leading slash; times are seconds since 1970.
//!
//! `entry` has the state of the tree after the last record. With it and the records, which have what was before, any earlier
//! state follows: take the records back, the last one first. So the oldest records can go at any time.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmxcfs_api_types::files::{create_private, with_suffix};
use pmxcfs_memdb::store::FileIdentity;
use rusqlite::{Connection, OpenFlags};

/// "pmxh".
const APPLICATION_ID: i32 = 0x706d_7868;

/// Version of the tables.
const VERSION: i32 = 1;

/// | table, column | meaning |
/// |---|---|
/// | `state` | one row: version of the tree after the last record; up to where records were removed (`oldest_version`, `oldest_time`) |
/// | `content` | a content: SHA-256, size, zstd frame; no data where only the hash is kept |
/// | `entry` | an entry of the tree: inode, path, kind (4 directory, 8 file), version, node, mtime, size, content if it is known |
/// | `record` | a change |
/// | `record.version` | of the tree, after the last change that the record stands for |
/// | `record.time` | when, by the clock of the node that changed it; of comparisons by the clock of this one |
/// | `record.operation` | `create`, `content`, `mkdir`, `remove`, `rename`, `gap` |
/// | `record.source` | `operation`; `synchronisation`; `comparison` with the tree, after a gap; `summary` of many changes |
/// | `record.path`, `from_path` | the entry; where a rename took it from |
/// | `record.node_id`, `node` | who changed it; the leader of a synchronisation |
/// | `record.changes` | how many changes it stands for |
/// | `record.kind`, `size`, `content` | the entry afterwards; no kind if it is gone |
/// | `record.old_...` | what was at `path` before; no kind if nothing was |
/// | `record.uid`, `pid`, `program` | who asked, through the mount of this node |
/// | `record.reason` | of a gap |
const TABLES: &str = "
CREATE TABLE state (version INTEGER NOT NULL, oldest_version INTEGER NOT NULL, oldest_time INTEGER NOT NULL);
CREATE TABLE content (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, data BLOB);
CREATE TABLE entry (
  inode INTEGER PRIMARY KEY, path BLOB NOT NULL, kind INTEGER NOT NULL, version INTEGER NOT NULL,
  writer INTEGER NOT NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, content INTEGER REFERENCES content);
CREATE INDEX entry_path ON entry (path);
CREATE TABLE record (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, time INTEGER NOT NULL,
  operation TEXT NOT NULL, source TEXT NOT NULL, path BLOB NOT NULL, from_path BLOB,
  node_id INTEGER NOT NULL, node TEXT NOT NULL, changes INTEGER NOT NULL,
  kind INTEGER, size INTEGER NOT NULL, content INTEGER REFERENCES content,
  old_kind INTEGER, old_size INTEGER NOT NULL, old_content INTEGER REFERENCES content,
  uid INTEGER, pid INTEGER, program TEXT, reason TEXT);
CREATE INDEX record_path ON record (path);
CREATE INDEX record_from ON record (from_path) WHERE from_path IS NOT NULL;
";

/// Why there is no history at present.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// The file cannot be made, looked at or moved.
    #[error("{0}")]
    File(#[from] io::Error),
    /// SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file has the size that it may have, and nothing in it can go.
    #[error("it may not become larger: the disk is nearly full, or its size is set too small")]
    NoRoom,
    /// The file is not a history, or one of another version.
    #[error("it has version {version} of its tables, not {VERSION}")]
    OtherVersion {
        /// 0 for a file that is no history.
        version: i32,
    },
}

impl HistoryError {
    /// Whether another process holds the file.
    pub(crate) fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        let code = match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        };
        matches!(code, Some(DatabaseBusy | DatabaseLocked))
    }

    /// Whether the file is of no use any more.
    pub(crate) fn is_broken(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::OtherVersion { .. } => true,
            // A table or a value that cannot be is damage, too.
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase)
                    || error.extended_code == rusqlite::ffi::SQLITE_ERROR
            }
            Self::Sqlite(_) => true,
            Self::File(_) | Self::NoRoom => false,
        }
    }
}

/// The open file, for the thread that writes it.
pub(crate) struct HistoryFile {
    pub(crate) connection: Connection,
    path: PathBuf,
    identity: FileIdentity,
}

impl HistoryFile {
    /// Opens it, or makes it where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, HistoryError> {
        match create_private(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => fs::set_permissions(path, Permissions::from_mode(0o600))?,
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        // A kill may have left a file without tables.
        let count_tables = "SELECT count(*) FROM sqlite_schema";
        let table_count: i64 = connection.query_row(count_tables, [], |row| row.get(0))?;
        let is_new = table_count == 0;
        if is_new {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        connection.execute_batch(
            "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024; PRAGMA journal_mode = WAL; \
             PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 1048576",
        )?;
        if is_new {
            let head = format!(
                "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}"
            );
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {head}; {TABLES} COMMIT"))?;
        }
        check(&connection)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            identity: FileIdentity::of(path)?,
        })
    }

    /// Whether the file is still under its name.
    pub(crate) fn is_in_place(&self) -> bool {
        FileIdentity::of(&self.path).is_ok_and(|present| present == self.identity)
    }

    /// Bytes on disk that are in use.
    pub(crate) fn size(&self) -> rusqlite::Result<u64> {
        let number = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
        };
        let (pages, free, size): (i64, i64, i64) = (
            number("page_count")?,
            number("freelist_count")?,
            number("page_size")?,
        );
        Ok(u64::try_from((pages - free) * size).unwrap_or(0))
    }
}

/// Opens it for a reader.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, HistoryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    check(&connection)?;
    Ok(connection)
}

/// Puts a file aside that is of no use, in place of the one before. Returns its new name.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(path, ".broken");
    fs::rename(path, &aside)?;
    for companion in ["-wal", "-shm"] {
        // The log may have what the file lacks.
        let _missing = fs::rename(with_suffix(path, companion), with_suffix(&aside, companion));
    }
    Ok(aside)
}

fn check(connection: &Connection) -> Result<(), HistoryError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let version = match number("application_id")? {
        APPLICATION_ID => number("user_version")?,
        _ => 0,
    };
    if version == VERSION {
        Ok(())
    } else {
        Err(HistoryError::OtherVersion { version })
    }
}
