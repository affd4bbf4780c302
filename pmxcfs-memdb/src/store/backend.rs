//! The database and the journal's files as the store's thread sees them: narrow traits, so that tests can make any
//! single step fail, and the implementations for the real ones.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql};

use super::schema::{self, SYNCED_ROW_KIND, VERSION_ROW_KIND, VERSION_ROW_NAME};
use crate::{Entry, RootState};

/// Why the database did not take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Another process holds a lock: it goes away by itself.
    #[error("another process holds the database")]
    Busy(#[source] rusqlite::Error),
    /// SQLite failed.
    #[error("the database cannot be written")]
    Sqlite(#[source] rusqlite::Error),
    /// The path leads to another file than before.
    #[error("the database file was removed or replaced")]
    Replaced,
    /// A system call failed.
    #[error("the database's files cannot be accessed")]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for BackendError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error),
            _ => Self::Sqlite(error),
        }
    }
}

/// How thorough a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Copies what no reader stands in the way of.
    Passive,
    /// Copies all and empties the log; impossible while another process reads.
    Truncate,
}

/// What brought the database into its state; the type of the version row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Operations of this node or delivered to it: type 8.
    Operations,
    /// A sync, which took another member's data over: type 4, as the C daemon writes it.
    Sync,
}

/// A database open for writing. The calls of one transaction are `begin`, any number of `delete` and `put`, `put_root`,
/// `commit`; after an error, `rollback`.
pub trait Backend: Send {
    /// Starts a transaction and takes the write lock, without waiting.
    fn begin(&mut self) -> Result<(), BackendError>;
    /// Removes an entry's row, if it is there.
    fn delete(&mut self, inode: u64) -> Result<(), BackendError>;
    /// Writes an entry's row.
    fn put(&mut self, entry: &Entry) -> Result<(), BackendError>;
    /// Writes the version row.
    fn put_root(&mut self, root: RootState, origin: Origin) -> Result<(), BackendError>;
    /// Ends the transaction.
    fn commit(&mut self) -> Result<(), BackendError>;
    /// Drops the transaction, if there is one.
    fn rollback(&mut self);
    /// Moves the log's content into the database. Returns whether all of it was moved.
    fn checkpoint(&mut self, mode: Checkpoint) -> Result<bool, BackendError>;
    /// Makes everything committed durable.
    fn sync(&mut self) -> Result<(), BackendError>;
    /// Size of the log in bytes.
    fn log_size(&self) -> u64;
    /// Gives caches back.
    fn release_memory(&mut self);
    /// Closes the database in good order: the log is folded in and removed unless another process uses it.
    fn close(self: Box<Self>) -> Result<(), BackendError>;
}

/// A file of the crash journal.
pub trait SegmentFile: Send {
    /// Its whole content.
    fn read_all(&mut self) -> io::Result<Vec<u8>>;
    /// Writes all bytes at an offset.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
}

/// Opens what the store writes to.
pub trait Medium: Send + Sync + fmt::Debug {
    /// Opens the database, which exists.
    fn open_backend(&self, database: &Path) -> Result<Box<dyn Backend>, BackendError>;
    /// Opens a journal file, or makes it.
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes a journal file.
    fn remove_segment(&self, path: &Path) -> io::Result<()>;
}

/// The real thing: SQLite and files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMedium;

impl Medium for SystemMedium {
    fn open_backend(&self, database: &Path) -> Result<Box<dyn Backend>, BackendError> {
        Ok(Box::new(SqliteBackend::open(database)?))
    }

    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        // Redo records hold the contents of private files.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Box::new(file))
    }

    fn remove_segment(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// No segment of ours comes near this.
const MAX_SEGMENT_SIZE: u64 = 1 << 30;

impl SegmentFile for File {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let size = self.metadata()?.len();
        if size > MAX_SEGMENT_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the file is too large for a crash journal",
            ));
        }
        let mut bytes = Vec::new();
        (&*self).take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }
}

/// A SQLite connection.
#[derive(Debug)]
pub struct SqliteBackend {
    connection: Connection,
    database: PathBuf,
    /// The file's directory entry and what was written before this connection are known to be on disk.
    base_synced: bool,
}

const UPDATE: &str = "UPDATE tree SET parent=?2, version=?3, writer=?4, mtime=?5, type=?6, name=?7, data=?8 WHERE inode=?1";
const INSERT: &str = "INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const STORED_SIZE: &str = "SELECT length(data) FROM tree WHERE inode=?1";
const DELETE: &str = "DELETE FROM tree WHERE inode=?1";

/// TEXT of any bytes, as C programs bind it.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// NULL when empty.
struct Content<'a>(&'a [u8]);

impl ToSql for Content<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(if self.0.is_empty() {
            ValueRef::Null
        } else {
            ValueRef::Blob(self.0)
        }))
    }
}

/// The columns of a row, in their order.
type RowValues<'a> = (i64, i64, i64, u32, u32, i64, Text<'a>, Content<'a>);

impl SqliteBackend {
    /// Opens a database that exists.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn open(database: &Path) -> Result<Self, BackendError> {
        Ok(Self {
            connection: schema::open_for_writing(database)?,
            database: database.to_owned(),
            base_synced: false,
        })
    }

    /// Writes a row such that few pages change.
    ///
    /// UPDATE to a content of the same size leaves those pages alone that are equal. UPDATE to another size takes new
    /// pages before it gives the old ones back, and these are written too, as zeros (Debian's SQLite wipes what is
    /// deleted); DELETE and INSERT use the old pages again.
    fn put_row(&self, values: RowValues<'_>) -> Result<(), BackendError> {
        let stored: Option<Option<i64>> = self
            .connection
            .prepare_cached(STORED_SIZE)?
            .query_row([values.0], |row| row.get(0))
            .optional()?;
        let statement = match stored {
            Some(size) if usize::try_from(size.unwrap_or(0)) == Ok(values.7.0.len()) => UPDATE,
            Some(_) => {
                self.connection
                    .prepare_cached(DELETE)?
                    .execute([values.0])?;
                INSERT
            }
            None => INSERT,
        };
        self.connection
            .prepare_cached(statement)?
            .execute(parameters(&values))?;
        Ok(())
    }
}

fn parameters<'a>(values: &'a RowValues<'_>) -> [&'a dyn ToSql; 8] {
    let (inode, parent, version, writer, mtime, kind, name, data) = values;
    [inode, parent, version, writer, mtime, kind, name, data]
}

impl Backend for SqliteBackend {
    fn begin(&mut self) -> Result<(), BackendError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    fn delete(&mut self, inode: u64) -> Result<(), BackendError> {
        self.connection
            .prepare_cached(DELETE)?
            .execute([inode.cast_signed()])?;
        Ok(())
    }

    fn put(&mut self, entry: &Entry) -> Result<(), BackendError> {
        self.put_row((
            entry.inode.cast_signed(),
            entry.parent.cast_signed(),
            entry.version.cast_signed(),
            entry.writer,
            entry.mtime,
            i64::from(entry.kind as u8),
            Text(&entry.name),
            Content(&entry.data),
        ))
    }

    fn put_root(&mut self, root: RootState, origin: Origin) -> Result<(), BackendError> {
        self.put_row((
            0,
            0,
            root.version.cast_signed(),
            root.writer,
            root.mtime,
            match origin {
                Origin::Operations => VERSION_ROW_KIND,
                Origin::Sync => SYNCED_ROW_KIND,
            },
            Text(VERSION_ROW_NAME.as_bytes()),
            Content(&[]),
        ))
    }

    fn commit(&mut self) -> Result<(), BackendError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // A failed rollback leaves the transaction open, and the next BEGIN reports it.
            let _result = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn checkpoint(&mut self, mode: Checkpoint) -> Result<bool, BackendError> {
        let statement = match mode {
            Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let (busy, frames, moved) = self.connection.query_row(statement, [], |row| {
            Ok((
                row.get::<_, bool>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })?;
        Ok(!busy && frames == moved)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        if !self.base_synced {
            // A new database was made without syncs; a checkpoint syncs the file whatever it copies.
            self.checkpoint(Checkpoint::Passive)?;
            let directory = self
                .database
                .parent()
                .filter(|path| !path.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
            self.base_synced = true;
        }
        // The log only: closing another descriptor of the database itself would drop SQLite's locks on it.
        File::open(schema::wal_path(&self.database))?.sync_data()?;
        Ok(())
    }

    fn log_size(&self) -> u64 {
        fs::metadata(schema::wal_path(&self.database)).map_or(0, |metadata| metadata.len())
    }

    fn release_memory(&mut self) {
        // Only a hint.
        let _result = self.connection.execute_batch("PRAGMA shrink_memory");
    }

    fn close(self: Box<Self>) -> Result<(), BackendError> {
        schema::checkpoint_at_close(&self.connection, true)?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}
