//! The crash journal at start: what was found, and going on with it.
//!
//! Finding changes no file, so that a refused database leaves everything as it was. The journal of a killed daemon is
//! continued, not replaced: its records stay until the first batch has brought them into the database. So a start
//! works, and loses nothing, even while the database cannot be written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use pmxcfs_api_types::time::wall_clock_secs;

use super::StoreConfig;
use super::backend::SegmentFile;
use super::journal::{Journal, Segment};
use super::open::Warning;
use super::recover::{self, JournalRefusal, Recovery, SEGMENT_COUNT};
use super::schema::FileIdentity;
use super::segment::{self, Scanned, SegmentError};
use crate::{Entry, RootState};

type Files = [Box<dyn SegmentFile>; SEGMENT_COUNT];

/// The journal as it was found, applied to the entries as far as it belongs to them.
pub(super) struct Found {
    files: io::Result<Files>,
    recovery: Result<Recovery, JournalRefusal>,
    touched: HashSet<u64>,
}

/// The journal as it goes on.
pub(super) struct Resumed {
    pub(super) journal: Journal,
    /// Records can be written.
    pub(super) usable: bool,
    /// Last operation that was recorded.
    pub(super) sequence: u64,
    /// Last operation that is in the database.
    pub(super) committed: u64,
    /// The journal's files.
    pub(super) paths: Vec<PathBuf>,
    /// Entries that differ from the database.
    pub(super) touched: HashSet<u64>,
    pub(super) warnings: Vec<Warning>,
}

/// Reads the journal and applies what `entries`, the rows of a database in the state `stored`, lack.
pub(super) fn find(
    config: &StoreConfig,
    database: FileIdentity,
    stored: RootState,
    entries: &mut Vec<Entry>,
) -> Found {
    let mut files = open_files(config);
    let mut touched = HashSet::new();
    let mut recover = |files: &mut Files| {
        let recovery = recover::plan(scan(files)?, database, stored)?;
        touched = recover::apply(entries, &recovery.records)?;
        Ok(recovery)
    };
    let recovery = match &mut files {
        Ok(files) => recover(files),
        Err(_) => Ok(Recovery::default()),
    };
    Found {
        files,
        recovery,
        touched,
    }
}

/// Names of the journal's files.
pub(super) const SEGMENT_NAMES: [&str; SEGMENT_COUNT] = ["memdb-journal.0", "memdb-journal.1"];

fn paths(config: &StoreConfig) -> Vec<PathBuf> {
    let directory = config.journal_dir.iter();
    directory
        .flat_map(|directory| SEGMENT_NAMES.map(|name| directory.join(name)))
        .collect()
}

fn open_files(config: &StoreConfig) -> io::Result<Files> {
    let mut files = Vec::new();
    for path in paths(config) {
        files.push(config.medium.open_segment(&path)?);
    }
    files.try_into().map_err(|_none: Vec<_>| {
        io::Error::new(io::ErrorKind::NotFound, "no directory is configured for it")
    })
}

fn scan(files: &mut Files) -> Result<[Option<Scanned>; SEGMENT_COUNT], JournalRefusal> {
    let mut scanned = [const { None }; SEGMENT_COUNT];
    for (file, slot) in files.iter_mut().zip(&mut scanned) {
        let bytes = file
            .read_all()
            .map_err(|_unreadable| SegmentError::Damaged)?;
        *slot = segment::scan(bytes.into())?;
    }
    Ok(scanned)
}

impl Found {
    /// The root state after the journal, if it has records to apply.
    pub(super) fn root(&self) -> Option<RootState> {
        let recovery = self.recovery.as_ref().ok()?;
        recovery.records.last().map(|record| record.root)
    }

    /// Takes the files over: continues the journal, or starts a new one at the state `stored`.
    pub(super) fn resume(
        self,
        config: &StoreConfig,
        database: FileIdentity,
        stored: RootState,
    ) -> Resumed {
        let mut warnings = Vec::new();
        let (files, recovery) = match self.recovery {
            Ok(recovery) => (self.files, recovery),
            Err(reason) => {
                drop(self.files);
                let kept = set_aside(config);
                warnings.push(Warning::JournalRefused { reason, kept });
                (open_files(config), Recovery::default())
            }
        };
        if !recovery.records.is_empty() {
            warnings.push(Warning::Recovered {
                operation_count: recovery.records.len(),
            });
        }
        if recovery.dropped_count > 0 {
            warnings.push(Warning::Incomplete {
                operation_count: recovery.dropped_count,
            });
        }
        let sequence = recovery
            .records
            .last()
            .map_or(recovery.committed, |record| record.sequence);
        let started = files.and_then(|files| {
            let mut journal = Journal::new(
                segments(files, &recovery)?,
                recovery.current,
                database,
                config,
            );
            let usable = match recovery.records.last() {
                None => journal.begin(recovery.committed, stored).map(|()| true)?,
                Some(last) => journal.go_on(last.sequence, last.root)?,
            };
            Ok((journal, usable))
        });
        let (journal, usable) = started.unwrap_or_else(|error| {
            if config.journal_dir.is_some() {
                warnings.push(Warning::NoJournal {
                    reason: error.to_string(),
                });
            }
            (Journal::none(database), false)
        });
        Resumed {
            journal,
            usable,
            sequence,
            committed: recovery.committed,
            paths: paths(config),
            touched: self.touched,
            warnings,
        }
    }
}

/// Cuts what is not needed off the files: torn records, and segments that the database has already.
fn segments(files: Files, recovery: &Recovery) -> io::Result<[Segment; SEGMENT_COUNT]> {
    let [first, second] = files;
    let [first_live, second_live] = recovery.live;
    Ok([
        Segment::new(first, first_live)?,
        Segment::new(second, second_live)?,
    ])
}

/// Renames the journal's files, so that an operator can look at them. Returns their new names.
fn set_aside(config: &StoreConfig) -> Vec<PathBuf> {
    let stamp = wall_clock_secs();
    let mut kept = Vec::new();
    for path in paths(config) {
        let empty = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0);
        let Some(target) = free_name(&path, stamp).filter(|_| !empty) else {
            continue;
        };
        if fs::rename(&path, &target).is_ok() {
            kept.push(target);
        }
    }
    kept
}

fn free_name(path: &Path, stamp: u32) -> Option<PathBuf> {
    (0..1000)
        .map(|attempt| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".refused-{stamp}-{attempt}"));
            PathBuf::from(name)
        })
        .find(|candidate| !candidate.exists())
}
