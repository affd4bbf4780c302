//! The crash journal at start: finding it, and going on with it.
//!
//! Finding changes no file, so that a refused database leaves everything as it was. The journal of a killed daemon is
//! continued, not replaced: its records stay until the first batch has brought them into the database. So a start
//! works, and loses nothing, even while the database cannot be written.

use std::io;
use std::path::Path;

use super::files::{Files, JournalPlace, SEGMENT_COUNT};
use super::replay::{self, JournalRefusal, Recovery};
use super::segment::{self, JournalFile, SegmentError};
use super::writing::Journal;
use crate::store::identity::FileIdentity;
use crate::store::warning::Warning;
use crate::{Entry, RootState};

/// The journal as it was found, applied to the entries as far as it belongs to them.
pub(crate) struct Found {
    files: io::Result<Files>,
    recovery: Result<Recovery, JournalRefusal>,
}

/// Reads the journal and applies what `entries`, the rows of a database in the state `stored`, lack.
pub(crate) fn find(
    place: &JournalPlace,
    database: FileIdentity,
    stored: RootState,
    entries: &mut Vec<Entry>,
) -> Found {
    let mut files = place.open();
    let mut recover = |files: &mut Files| {
        let mut recovery = replay::plan(scan(files)?, database, stored)?;
        recovery.touched = replay::apply(entries, &recovery.records)?;
        Ok(recovery)
    };
    let recovery = match &mut files {
        Ok(files) => recover(files),
        Err(_) => Ok(Recovery::default()),
    };
    Found { files, recovery }
}

fn scan(files: &mut Files) -> Result<[Option<JournalFile>; SEGMENT_COUNT], JournalRefusal> {
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
    pub(crate) fn root(&self) -> Option<RootState> {
        self.recovery.as_ref().ok()?.root()
    }

    /// Takes the files over: continues the journal, or starts a new one at the state `stored`. A journal that is refused
    /// goes to the directory `aside`. A new one takes at most `limit` bytes. Returns what was recovered and what to tell the
    /// operator, too.
    pub(crate) fn resume(
        self,
        place: JournalPlace,
        database: FileIdentity,
        stored: RootState,
        limit: u64,
        aside: &Path,
    ) -> (Journal, Recovery, Vec<Warning>) {
        let mut warnings = Vec::new();
        let (files, recovery) = match self.recovery {
            Ok(recovery) => (self.files, recovery),
            Err(reason) => {
                drop(self.files);
                let kept = place.set_aside(aside);
                warnings.push(Warning::JournalRefused { reason, kept });
                (place.open(), Recovery::default())
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
        let mut journal = Journal::new(place, database, limit, recovery.committed);
        let started = files.and_then(|files| journal.go_on(files, &recovery, stored));
        if let Err(error) = started {
            warnings.push(Warning::NoJournal {
                reason: error.to_string(),
            });
        }
        (journal, recovery, warnings)
    }
}
