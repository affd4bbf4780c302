//! The crash journal's files as an operator looks at them: what is in there, without judging what it is good for.
//!
//! Looking changes nothing: files are neither made nor cut.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::journal::{self, JournalRecord, SEGMENT_COUNT, Scanned, SegmentError, journal_files};
use super::medium::SegmentFile as _;
use crate::RootState;

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a file of a crash journal.
    #[error("{} is not a crash journal that this program can read", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SegmentError,
    },
}

/// A file of the crash journal that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFile {
    /// Device of the database file that it belongs to.
    pub device: u64,
    /// Inode number of the database file.
    pub inode: u64,
    /// When the database file was made, nanoseconds since 1970; 0 where the filesystem does not know.
    pub created_ns: u64,
    /// Number that the first record has or would have.
    pub first_sequence: u64,
    /// State of the database before the first record.
    pub base: RootState,
    /// The records, as far as they are whole and consecutive.
    pub records: Vec<JournalRecord>,
    /// Bytes behind them: a record that was being written when the daemon died, or is being written now.
    pub torn_bytes: usize,
}

/// Reads a file of a crash journal. `None` if it is not in use.
///
/// # Errors
/// [`InspectError`].
pub fn read_journal_file(path: &Path) -> Result<Option<JournalFile>, InspectError> {
    let bytes = read_limited(path).map_err(|source| InspectError::Read {
        path: path.to_owned(),
        source,
    })?;
    match journal::scan(bytes) {
        Ok(scanned) => Ok(scanned.map(JournalFile::from)),
        Err(source) => Err(InspectError::Segment {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Both segments of a run directory. A file that is not there is like an empty one.
pub(super) fn scan_directory(
    directory: &Path,
) -> Result<[Option<Scanned>; SEGMENT_COUNT], InspectError> {
    let mut scanned = [const { None }; SEGMENT_COUNT];
    for (path, slot) in journal_files(directory).into_iter().zip(&mut scanned) {
        let bytes = match read_limited(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(InspectError::Read { path, source }),
        };
        *slot = journal::scan(bytes).map_err(|source| InspectError::Segment { path, source })?;
    }
    Ok(scanned)
}

fn read_limited(path: &Path) -> io::Result<Bytes> {
    File::open(path)?.read_all().map(Bytes::from)
}

impl From<Scanned> for JournalFile {
    fn from(scanned: Scanned) -> Self {
        let header = scanned.header;
        Self {
            device: header.database.device,
            inode: header.database.inode,
            created_ns: header.database.created_ns,
            first_sequence: header.first_sequence,
            base: header.base,
            records: scanned.records,
            torn_bytes: scanned.torn_size,
        }
    }
}
