//! How the store reaches the database and the journal's files: narrow traits, so that tests can make any single step
//! fail.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::{Entry, Problem, RootState};

/// Why the database did not take something.
#[derive(Debug, thiserror::Error)]
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

/// A row of the database as a scrub reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Its inode.
    pub inode: u64,
    /// The entry that it is, or why it is none.
    pub entry: Result<Entry, Problem>,
}

/// A database open for writing. The calls of one transaction are `begin`, any number of `delete` and `put`, `put_root`,
/// `commit`; after an error, `rollback`.
pub trait Backend: Send {
    /// Whether another connection has changed the database since the last call, or emptied its log. Cheap.
    fn was_changed(&mut self) -> Result<bool, BackendError>;
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
    /// Reads rows in ascending order of unsigned inodes, above `from` and up to `to`, until it has read about so many bytes
    /// of content. Returns them, and the inode up to which there are no more; that is `to` or less.
    fn read_rows(
        &mut self,
        from: u64,
        to: u64,
        size: usize,
    ) -> Result<(Vec<StoredRow>, u64), BackendError>;
    /// The version row, if it is a good one.
    fn read_root(&mut self) -> Result<Option<RootState>, BackendError>;
    /// Has what is read next come from the disk, as far as the system allows.
    fn forget_cached(&mut self);
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
    /// Whether a start could still find it: it has a name in a directory.
    fn is_linked(&self) -> io::Result<bool>;
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
