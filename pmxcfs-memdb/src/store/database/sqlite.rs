//! Writing a database with SQLite.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use pmxcfs_api_types::files::sync_directory_of;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension};

use super::schema::{self, SYNCED_ROW_KIND, VERSION_ROW_KIND, VERSION_ROW_NAME};
use crate::store::medium::{Backend, BackendError, Checkpoint, Origin, StoredRow};
use crate::{Entry, RootState};

/// A SQLite connection.
#[derive(Debug)]
pub struct SqliteBackend {
    connection: Connection,
    database: PathBuf,
    /// Another descriptor of the database, for advice to the system. Closing it drops SQLite's locks on the file, so it stays
    /// until the connection is closed.
    file: Option<File>,
    /// The file's directory entry and what was written before this connection are known to be on disk.
    base_synced: bool,
    /// SQLite's counter of the commits of others, as it was last seen.
    data_version: i64,
}

const UPDATE: &str = "UPDATE tree SET parent=?2, version=?3, writer=?4, mtime=?5, type=?6, name=?7, data=?8 WHERE inode=?1";
const INSERT: &str = "INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const STORED_SIZE: &str = "SELECT length(data) FROM tree WHERE inode=?1";
const DELETE: &str = "DELETE FROM tree WHERE inode=?1";

/// TEXT of any bytes, as C programs bind it.
fn text(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

/// NULL when empty.
fn content(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match bytes {
        [] => ValueRef::Null,
        bytes => ValueRef::Blob(bytes),
    })
}

impl SqliteBackend {
    /// Opens a database that exists.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn open(database: &Path) -> Result<Self, BackendError> {
        let connection = schema::open_for_writing(database)?;
        Ok(Self {
            data_version: data_version(&connection)?,
            connection,
            database: database.to_owned(),
            file: None,
            base_synced: false,
        })
    }

    /// Writes a row with so many bytes of content such that few pages change.
    ///
    /// UPDATE to a content of the same size leaves those pages alone that are equal. UPDATE to another size takes new
    /// pages before it gives the old ones back, and these are written too, as zeros (Debian's SQLite wipes what is
    /// deleted); DELETE and INSERT use the old pages again.
    fn put_row(&self, columns: [ToSqlOutput<'_>; 8], size: usize) -> Result<(), BackendError> {
        let inode = &columns[0];
        let stored: Option<Option<i64>> = self
            .connection
            .prepare_cached(STORED_SIZE)?
            .query_row([inode], |row| row.get(0))
            .optional()?;
        let statement = match stored {
            Some(stored) if usize::try_from(stored.unwrap_or(0)) == Ok(size) => UPDATE,
            Some(_) => {
                self.connection.prepare_cached(DELETE)?.execute([inode])?;
                INSERT
            }
            None => INSERT,
        };
        self.connection
            .prepare_cached(statement)?
            .execute(columns)?;
        Ok(())
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA data_version")?;
    statement.query_row([], |row| row.get(0))
}

impl Backend for SqliteBackend {
    fn was_changed(&mut self) -> Result<bool, BackendError> {
        let current = data_version(&self.connection)?;
        let former = std::mem::replace(&mut self.data_version, current);
        Ok(current != former)
    }

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
        let columns = [
            entry.inode.cast_signed().into(),
            entry.parent.cast_signed().into(),
            entry.version.cast_signed().into(),
            entry.writer.into(),
            entry.mtime.into(),
            i64::from(entry.kind as u8).into(),
            text(&entry.name),
            content(&entry.data),
        ];
        self.put_row(columns, entry.data.len())
    }

    fn put_root(&mut self, root: RootState, origin: Origin) -> Result<(), BackendError> {
        let kind = match origin {
            Origin::Operations => VERSION_ROW_KIND,
            Origin::Sync => SYNCED_ROW_KIND,
        };
        let columns = [
            0.into(),
            0.into(),
            root.version.cast_signed().into(),
            root.writer.into(),
            root.mtime.into(),
            kind.into(),
            text(VERSION_ROW_NAME.as_bytes()),
            content(&[]),
        ];
        self.put_row(columns, 0)
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
            sync_directory_of(&self.database)?;
            self.base_synced = true;
        }
        // The log only: closing another descriptor of the database itself would drop SQLite's locks on it.
        File::open(schema::wal_path(&self.database))?.sync_data()?;
        Ok(())
    }

    fn read_rows(
        &mut self,
        from: u64,
        to: u64,
        size: usize,
    ) -> Result<(Vec<StoredRow>, u64), BackendError> {
        // The numbers from 2^63 on are negative in the database.
        let last = match from < i64::MAX.cast_unsigned() {
            true => to.min(i64::MAX.cast_unsigned()),
            false => to,
        };
        let range = (from + 1).cast_signed()..=last.cast_signed();
        let (mut rows, mut read_size) = (Vec::new(), 0);
        super::read_range(&self.connection, range, |row: StoredRow| {
            read_size += row.entry.as_ref().map_or(0, |entry| entry.data.len()) + 1;
            rows.push(row);
            match read_size < size {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        let end = match rows.last() {
            Some(row) if read_size >= size => row.inode,
            _ => last,
        };
        Ok((rows, end))
    }

    fn read_root(&mut self) -> Result<Option<RootState>, BackendError> {
        Ok(super::read_root(&self.connection)?)
    }

    fn forget_cached(&mut self) {
        self.release_memory();
        if self.file.is_none() {
            self.file = File::open(&self.database).ok();
        }
        if let Some(file) = &self.file {
            // Only a hint, for pages that are on the disk.
            let _result = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
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
