//! Reading a database that no daemon of this process uses, for tools.
//!
//! A tool sees what a start would see: the rows, and on top of them what a crash journal holds that they lack. Nothing
//! is written: the journal is applied in memory, and a database that was closed in good order is read without SQLite's
//! companion files being made beside it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pmxcfs_api_types::files::{has_content, with_suffix};
use rusqlite::{Connection, ErrorCode};

use super::database::{self, RawRow, Rows};
use super::error::{StoreError, cannot};
use super::identity::FileIdentity;
use super::inspect;
use super::journal::{self, JournalRefusal, Recovery};
use super::read_only;
use crate::{Entry, Finding, Problem, RootState, Rules, Tree};

/// Who else may be using a database while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody writes to it: the caller holds the daemon's lock, or the file is a copy.
    Idle,
    /// A daemon may be writing to it. It is read as of its last commit, through SQLite's log, which delays no writer.
    Live,
}

/// A database as it was read.
#[derive(Debug)]
pub struct Examined {
    /// The stored version row, if there is a good one.
    pub version_row: Option<RootState>,
    /// State of the database as a start would use it, after the crash journal.
    pub root: RootState,
    /// The entries that are well-formed in themselves, after the crash journal, in the order of their signed inodes.
    pub entries: Vec<Entry>,
    /// Everything that is wrong, after the crash journal.
    pub findings: Vec<Finding>,
    /// The use of the crash journal.
    pub journal: JournalUse,
}

/// The use of a crash journal.
#[derive(Debug)]
pub enum JournalUse {
    /// It was not looked at.
    Ignored,
    /// It holds nothing that the database lacks.
    Idle,
    /// Operations were applied that the database lacks.
    Applied {
        /// How many.
        operation_count: usize,
        /// Records behind a gap, left out: nobody was told that they are safe.
        dropped_count: usize,
    },
    /// It has records that cannot be applied. A start puts it aside and goes on without.
    Refused(JournalRefusal),
    /// It cannot be read. A start puts it aside and goes on without.
    Unreadable(StoreError),
    /// It has records that the database lacks, but the rows alone are refused already, so a start does not get to them.
    Waiting {
        /// How many.
        operation_count: usize,
    },
}

/// Reads and checks a database, and applies the crash journal in `journal_dir` in memory.
///
/// # Errors
/// [`StoreError`]: the database cannot be read. A database whose rows are refused is no error.
pub fn examine(
    database: &Path,
    access: Access,
    journal_dir: Option<&Path>,
) -> Result<Examined, StoreError> {
    let before = stamp(database)?;
    let mut rows: Rows = raw_rows(database, access)?.into_iter().collect();
    if access == Access::Idle && stamp(database)? != before {
        return Err(StoreError::new(format!(
            "the database {} was changed while it was read: another program uses it; try again",
            database.display()
        )));
    }
    let (journal, root) = match journal_dir {
        Some(directory) => replay(database, directory, &mut rows),
        None => (JournalUse::Ignored, None),
    };
    Ok(judge(rows, journal, root))
}

/// What `PRAGMA integrity_check` says about the file, apart from contents that [`examine`] reports row by row. Empty
/// for a sound file.
///
/// # Errors
/// [`StoreError`]: the file cannot be read.
pub fn integrity(database: &Path, access: Access) -> Result<Vec<String>, StoreError> {
    let connection = connect(database, access)?;
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let lines = statement.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    let lines = check().map_err(read_error(database))?;
    let is_content =
        |line: &str| line.starts_with("CHECK constraint failed") || line.starts_with("NULL value");
    Ok(lines
        .into_iter()
        .filter(|line| line != "ok" && !is_content(line))
        .collect())
}

/// The rows of an open database as they are; none where it has no table yet.
pub(super) fn raw_rows(database: &Path, access: Access) -> Result<Vec<RawRow>, StoreError> {
    let connection = connect(database, access)?;
    let read = || -> rusqlite::Result<Vec<RawRow>> {
        let mut rows = Vec::new();
        if connection.table_exists(None, "tree")? {
            database::read_raw(&connection, "ASC", |row| rows.push(row))?;
        }
        Ok(rows)
    };
    read().map_err(read_error(database))
}

fn read_error(database: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::ReadOnly) if has_content(&with_suffix(database, "-journal")) => {
            let path = database.display();
            StoreError::new(format!(
                "the database {path} was left in the middle of a transaction by another program; let SQLite undo that: \
                 sqlite3 {path} .schema"
            ))
        }
        _ => cannot("read the database", database)(source),
    }
}

/// The operations that the journal in `journal_dir` holds and the rows lack.
pub(super) fn plan(
    database: &Path,
    journal_dir: &Path,
    rows: &Rows,
) -> Result<Recovery, JournalUse> {
    let segments = inspect::scan_directory(journal_dir).map_err(JournalUse::Unreadable)?;
    let identity = FileIdentity::of(database)
        .map_err(cannot("read", database))
        .map_err(JournalUse::Unreadable)?;
    let stored = database::effective_root(rows.version_row, &rows.entries);
    journal::plan(segments, identity, stored).map_err(JournalUse::Refused)
}

/// Applies the journal to the rows as a start does: not to rows that are refused in themselves.
fn replay(database: &Path, journal_dir: &Path, rows: &mut Rows) -> (JournalUse, Option<RootState>) {
    let recovery = match plan(database, journal_dir, rows) {
        Ok(recovery) => recovery,
        Err(journal) => return (journal, None),
    };
    let Some(root) = recovery.root() else {
        return (JournalUse::Idle, None);
    };
    let operation_count = recovery.records.len();
    if rows.findings.iter().any(Finding::is_refused) {
        return (JournalUse::Waiting { operation_count }, None);
    }
    match journal::apply(&mut rows.entries, &recovery.records) {
        Ok(_touched) => (
            JournalUse::Applied {
                operation_count,
                dropped_count: recovery.dropped_count,
            },
            Some(root),
        ),
        Err(refusal) => (JournalUse::Refused(refusal), None),
    }
}

/// How a start would see these rows. `replayed` is the state after the records of the crash journal among them.
pub(super) fn judge(mut rows: Rows, journal: JournalUse, replayed: Option<RootState>) -> Examined {
    let stored = rows.version_row;
    let effective = replayed.or(stored);
    let is_empty = stored.is_none() && rows.entries.is_empty() && rows.findings.is_empty();
    if !is_empty {
        database::validate(effective, &rows.entries, &mut rows.findings);
    }
    let root = database::effective_root(effective, &rows.entries);
    let mut findings = rows.findings;
    // Rows that are refused make no tree: what is wrong with that shows once they are good.
    let is_refused = findings.iter().any(Finding::is_refused);
    let is_hidden = |entry: &&Entry| matches!(&entry.name[..], b"." | b"..");
    let hidden = rows.entries.iter().filter(is_hidden);
    findings.extend(hidden.map(|entry| Finding {
        inode: entry.inode,
        name: entry.name.clone(),
        problem: Problem::HiddenName,
    }));
    if !is_refused {
        check_tree(root, &rows.entries, &mut findings);
    }
    Examined {
        version_row: stored,
        root,
        findings,
        entries: rows.entries,
        journal,
    }
}

/// The tree tells one duplicate at a time, so it is built anew without each that was found.
fn check_tree(root: RootState, entries: &[Entry], findings: &mut Vec<Finding>) {
    let mut kept = entries.to_vec();
    loop {
        match Tree::from_entries(root, kept.iter().cloned(), Rules::Local, 0) {
            Ok(tree) => {
                findings.extend_from_slice(tree.warnings());
                return;
            }
            // Everything else is found in the rows before.
            Err(finding) if !matches!(finding.problem, Problem::DuplicateGuest { .. }) => return,
            Err(finding) => {
                kept.retain(|entry| entry.inode != finding.inode);
                findings.push(finding);
            }
        }
    }
}

/// Opens a database such that nothing is made beside it where that is possible.
pub(super) fn connect(database: &Path, access: Access) -> Result<Connection, StoreError> {
    if access == Access::Live || is_pending(database) {
        return read_only::open_shared(database).map_err(read_error(database));
    }
    read_only::open_alone(database).map_err(read_error(database))
}

/// Whether SQLite has to look at a log beside the file.
fn is_pending(database: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .any(|suffix| has_content(&with_suffix(database, suffix)))
}

/// Changes whenever somebody writes to the database.
fn stamp(database: &Path) -> Result<(u64, u64, i64, i64, bool), StoreError> {
    let metadata = fs::metadata(database).map_err(cannot("access the database", database))?;
    Ok((
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        is_pending(database),
    ))
}
