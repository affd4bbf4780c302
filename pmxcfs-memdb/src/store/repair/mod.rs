//! Repairing the rows of a database that does not load, or that has rows no path leads to, and salvaging those of a file
//! that is damaged.
//!
//! Nothing is thrown away. What cannot stay where it is (the second of two entries of one name, what is in a directory
//! that does not exist, a name that is no name) is moved to the directory `priv`, which only root can read, as
//! `recovered-INODE-NAME`: lost rows may have been private. Numbers that make no sense are replaced.
//!
//! Rows are repaired in memory, in rounds: check all rows, mend what was found, check again, since one repair can show the
//! next fault (a cycle that is broken, a name that is cut). The caller writes a new database of the result, which the
//! daemon loads, so that the old file is as it was until the new one is complete.
//!
//! | module | job |
//! |---|---|
//! | `rounds` | which fault is mended how |
//! | `table` | the rows, and changing them |
//! | `salvage` | rows of a damaged file: through SQLite as far as that gets |
//! | `pages` | and out of the file's pages |

mod pages;
mod rounds;
mod salvage;
mod table;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

pub use rounds::Repair;

use super::error::{StoreError, cannot};
use super::journal::{self, JournalRefusal, journal_files};
use super::offline::{self, Access};
use crate::{Entry, Finding, RootState};
use table::Table;

/// Rows that the daemon loads, and the repairs behind them.
#[derive(Debug)]
pub struct Repaired {
    /// State of the database.
    pub root: RootState,
    /// All entries, in row order.
    pub entries: Vec<Entry>,
    /// Operations of the crash journal among them that the database lacks.
    pub journal_operation_count: usize,
    /// All repairs, in order.
    pub repairs: Vec<Repair>,
    /// Findings that are left, because a repair would destroy something. The daemon starts with them.
    pub left: Vec<Finding>,
}

/// Reads a database and repairs its rows, in memory.
///
/// # Errors
/// [`StoreError`]: the database cannot be read, the crash journal does not fit it, or a fault is left that keeps the daemon
/// from starting.
pub fn repair(database: &Path, journal_dir: Option<&Path>) -> Result<Repaired, StoreError> {
    let mut table = Table::new(offline::raw_rows(database, Access::Idle)?);
    let journal_operation_count = match journal_dir {
        Some(directory) => lay_journal(&mut table, database, directory)?,
        None => 0,
    };
    mend(table, database, journal_operation_count)
}

/// Reads the readable rows of a damaged file and repairs them, in memory. Returns a line for each loss, too.
///
/// # Errors
/// As [`repair`], or there is no row that can be read.
pub fn salvage(
    database: &Path,
    journal_dir: Option<&Path>,
) -> Result<(Repaired, Vec<String>), StoreError> {
    let mut readable = salvage::read(database)?;
    if readable.table.rows.is_empty() {
        return Err(StoreError::new(format!(
            "nothing can be read of {}: it is no database of pmxcfs, or all of it is damaged",
            database.display()
        )));
    }
    // Before anything is moved: a record of the journal names the place of its entry.
    let laid = match journal_dir {
        Some(directory) => lay_journal(&mut readable.table, database, directory),
        None => Ok(0),
    };
    let (mut losses, table) = readable.set_aside();
    let journal_operation_count = laid.unwrap_or_else(|error| {
        losses.push(error.to_string());
        0
    });
    Ok((mend(table, database, journal_operation_count)?, losses))
}

fn mend(
    mut table: Table,
    database: &Path,
    journal_operation_count: usize,
) -> Result<Repaired, StoreError> {
    let (repairs, examined) = rounds::run(&mut table);
    if let Some(refused) = examined
        .findings
        .iter()
        .find(|finding| finding.is_refused())
    {
        return Err(StoreError::new(format!(
            "{} cannot be repaired; first fault that is left: {refused}",
            database.display()
        )));
    }
    Ok(Repaired {
        root: examined.root,
        entries: examined.entries,
        journal_operation_count,
        repairs,
        left: examined.findings,
    })
}

/// Applies the operations that only the journal holds to the rows. A journal that a start would put aside is ignored.
fn lay_journal(
    table: &mut Table,
    database: &Path,
    journal_dir: &Path,
) -> Result<usize, StoreError> {
    let mut rows = table.sorted();
    let recovery = match offline::plan(database, journal_dir, &rows) {
        Ok(recovery) => recovery,
        Err(_put_aside) => return Ok(0),
    };
    let Some(root) = recovery.root() else {
        return Ok(0);
    };
    let misfit = || cannot("apply the crash journal to", database);
    let touched = journal::apply(&mut rows.entries, &recovery.records).map_err(misfit())?;
    // A record may leave a content as it is, and that of a refused row is not known here.
    let mut findings = rows.findings.iter();
    if findings.any(|finding| finding.is_refused() && touched.contains(&finding.inode)) {
        return Err(misfit()(JournalRefusal::Inconsistent));
    }
    for inode in touched {
        table.rows.remove(&inode.cast_signed());
        let at = rows
            .entries
            .binary_search_by_key(&inode.cast_signed(), |entry| entry.inode.cast_signed());
        if let Ok(at) = at {
            table.put_entry(&rows.entries[at]);
        }
    }
    table.put_root(root);
    Ok(recovery.records.len())
}

/// Empties the crash journal, once a database holds its operations.
///
/// # Errors
/// If a file cannot be cut. The next start then puts the journal aside, since it belongs to another file.
pub fn empty_journal(directory: &Path) -> io::Result<()> {
    for path in journal_files(directory) {
        if path.exists() {
            OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
    }
    Ok(())
}
