//! Where the store keeps what, and the real files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::database::SqliteBackend;
use super::journal::open_segment;
use super::medium::{Backend, BackendError, Medium, SegmentFile};

/// Where the store keeps what.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database.
    pub database: PathBuf,
    /// Directory for the crash journal. If it is missing, every operation is acknowledged when it is in the database.
    pub journal_dir: PathBuf,
    /// Most bytes of records in the crash journal. What does not fit is acknowledged when it is in the database. The files
    /// keep room for what comes next, so they may be larger than what is in them.
    pub journal_limit_bytes: u64,
    /// A database file of zero bytes counts as a missing one, unless a log or a crash journal is there. Otherwise opening
    /// it fails.
    pub accept_empty: bool,
    /// How files are reached.
    pub medium: Arc<dyn Medium>,
}

impl StoreConfig {
    /// The usual limits and the real files.
    pub fn new(database: impl Into<PathBuf>, journal_dir: impl Into<PathBuf>) -> Self {
        Self {
            database: database.into(),
            journal_dir: journal_dir.into(),
            journal_limit_bytes: 64 * 1024 * 1024,
            accept_empty: false,
            medium: Arc::new(SystemMedium),
        }
    }
}

/// The real thing: SQLite and files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMedium;

impl Medium for SystemMedium {
    fn open_backend(&self, database: &Path) -> Result<Box<dyn Backend>, BackendError> {
        Ok(Box::new(SqliteBackend::open(database)?))
    }

    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(open_segment(path)?))
    }

    fn remove_segment(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
