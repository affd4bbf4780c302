//! The crash journal's files as an operator looks at them: what is in there, without judging what it is good for.
//!
//! Looking changes nothing: files are neither made nor cut.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::recover::SEGMENT_COUNT;
use super::redo::{Metadata, Redo, Step};
use super::resume::SEGMENT_NAMES;
use super::segment::{self, Scanned, SegmentError};
use crate::{Entry, RootState};

/// No file of ours comes near this.
const MAX_SEGMENT_SIZE: u64 = 1 << 30;

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

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// Position in the order of all records.
    pub sequence: u64,
    /// State of the database after the operation.
    pub root: RootState,
    /// Its effects, in order.
    pub steps: Vec<JournalStep>,
}

/// One effect of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalStep {
    /// The entry exists and is like this; its content stays what it was and is not known here.
    Put {
        /// The entry, without content.
        entry: Entry,
    },
    /// As `Put`, and the content changed.
    Content {
        /// The entry, with its new size and without content.
        entry: Entry,
        /// How many bytes of the former content stay at most.
        keep: u32,
        /// Where `data` begins.
        offset: u32,
        /// The bytes written.
        data: Bytes,
    },
    /// The entry is gone.
    Removed {
        /// The entry.
        inode: u64,
    },
}

/// Paths of the files of the crash journal in a run directory, whether or not they are there.
#[must_use]
pub fn journal_files(directory: &Path) -> [PathBuf; SEGMENT_COUNT] {
    SEGMENT_NAMES.map(|name| directory.join(name))
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
    match segment::scan(bytes) {
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
        *slot = segment::scan(bytes).map_err(|source| InspectError::Segment { path, source })?;
    }
    Ok(scanned)
}

fn read_limited(path: &Path) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_SEGMENT_SIZE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SEGMENT_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is too large for a crash journal",
        ));
    }
    Ok(bytes.into())
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
            records: scanned.records.into_iter().map(record).collect(),
            torn_bytes: scanned.torn_size,
        }
    }
}

fn record(redo: Redo) -> JournalRecord {
    JournalRecord {
        sequence: redo.sequence,
        root: redo.root,
        steps: redo.steps.into_iter().map(step).collect(),
    }
}

fn step(step: Step) -> JournalStep {
    match step {
        Step::Put(metadata) => JournalStep::Put {
            entry: entry(metadata, 0),
        },
        Step::Content {
            metadata,
            keep,
            offset,
            size,
            data,
        } => JournalStep::Content {
            entry: entry(metadata, size),
            keep,
            offset,
            data,
        },
        Step::Removed { inode } => JournalStep::Removed { inode },
    }
}

fn entry(metadata: Metadata, size: u32) -> Entry {
    Entry {
        inode: metadata.inode,
        parent: metadata.parent,
        version: metadata.version,
        writer: metadata.writer,
        mtime: metadata.mtime,
        size,
        kind: metadata.kind,
        name: metadata.name,
        data: Bytes::new(),
    }
}
