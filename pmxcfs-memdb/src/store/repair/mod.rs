//! Repairing a database that does not load, or that holds rows no path leads to.
//!
//! Nothing is thrown away. What cannot stay where it is (the second of two entries of one name, what is in a directory
//! that does not exist, a name that is no name) is moved to the directory `priv`, which only root can read, as
//! `recovered-INODE-NAME`: lost rows may have been private. Numbers that make no sense are replaced.
//!
//! Repairing goes in rounds: check all rows, mend what was found, check again, since one repair can show the next fault
//! (a cycle that is broken, a name that is cut). All rounds, and what a crash journal holds that the rows lack, are one
//! transaction, and it is only committed if the daemon would start with the result.
//!
//! | module | job |
//! |---|---|
//! | `rounds` | which fault is mended how |
//! | `rows` | changing rows |

mod rounds;
mod rows;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::fault::Fault;
use super::inspect::journal_files;
use super::load::Rows;
use super::offline::{self, Access, ExamineError};
use super::recover::{self, JournalRefusal};
use super::schema;
use rows::RowTable;

/// Why a database was not repaired. It is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It cannot be read.
    #[error(transparent)]
    Examine(#[from] ExamineError),
    /// A change failed.
    #[error("cannot change the database {}; it is as it was", path.display())]
    Write {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Records of the crash journal do not fit the rows.
    #[error("the crash journal cannot be applied to {}", path.display())]
    Journal {
        /// The database.
        path: PathBuf,
        /// Why.
        source: JournalRefusal,
    },
    /// Faults that keep the daemon from starting are left.
    #[error("{} cannot be repaired; first fault that is left: {}", path.display(), left)]
    Left {
        /// The database.
        path: PathBuf,
        /// The first of them.
        left: Box<Fault>,
    },
}

/// What a repair does or would do.
#[derive(Debug)]
pub struct RepairReport {
    /// Operations of the crash journal that become rows.
    pub journal_operation_count: usize,
    /// What is mended, in order.
    pub repairs: Vec<Repair>,
    /// What is left as it is, because mending it would destroy something. The daemon starts with it.
    pub left: Vec<Fault>,
}

/// One fault and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub fault: Fault,
    /// What was done, in words: "moved to priv/recovered-7-a".
    pub action: String,
}

/// What [`repair`] is to do. Works on a copy in memory.
///
/// # Errors
/// [`RepairError`].
pub fn plan_repair(
    database: &Path,
    access: Access,
    journal_dir: Option<&Path>,
) -> Result<RepairReport, RepairError> {
    let scratch = offline::copy_table(database, access)?;
    work(&scratch, database, journal_dir)
}

/// Repairs a database in one transaction, durable when this returns. The caller holds the daemon's lock and has kept a
/// copy.
///
/// # Errors
/// [`RepairError`].
pub fn repair(database: &Path, journal_dir: Option<&Path>) -> Result<RepairReport, RepairError> {
    let failed = |source| RepairError::Write {
        path: database.to_owned(),
        source,
    };
    let connection = schema::open_for_writing(database).map_err(failed)?;
    schema::checkpoint_at_close(&connection, true).map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    // A transaction that is cut off in SQLite's log needs nobody to undo it, so that readers still only read.
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_row| Ok(()))
        .map_err(failed)?;
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed)?;
    let report = work(&connection, database, journal_dir)?;
    connection.execute_batch("COMMIT").map_err(failed)?;
    // The log is folded in. If that fails, it stays and is valid.
    let _closed = connection.close();
    if report.journal_operation_count > 0
        && let Some(directory) = journal_dir
    {
        // The records are in the database; a start that finds them here knows that.
        let _emptied = empty_journal(directory);
    }
    Ok(report)
}

fn work(
    connection: &Connection,
    database: &Path,
    journal_dir: Option<&Path>,
) -> Result<RepairReport, RepairError> {
    let rows = offline::read(connection, database)?;
    let journal_operation_count = match journal_dir {
        Some(directory) => lay_journal(connection, database, directory, rows)?,
        None => 0,
    };
    let (repairs, left) = rounds::run(&RowTable::new(connection), database)?;
    if let Some(refused) = left.iter().find(|fault| fault.is_refused()) {
        return Err(RepairError::Left {
            path: database.to_owned(),
            left: Box::new(refused.clone()),
        });
    }
    Ok(RepairReport {
        journal_operation_count,
        repairs,
        left,
    })
}

/// Makes rows of what the journal has and the rows lack. A journal that a start would put aside is left for it.
fn lay_journal(
    connection: &Connection,
    database: &Path,
    journal_dir: &Path,
    mut rows: Rows,
) -> Result<usize, RepairError> {
    let recovery = match offline::plan(database, journal_dir, &rows) {
        Ok(recovery) => recovery,
        Err(_put_aside) => return Ok(0),
    };
    let Some(root) = recovery.records.last().map(|record| record.root) else {
        return Ok(0);
    };
    let misfit = |source| RepairError::Journal {
        path: database.to_owned(),
        source,
    };
    let touched = recover::apply(&mut rows.entries, &recovery.records).map_err(misfit)?;
    // A record may leave a content as it is, and that of a refused row is not known here.
    if rows
        .findings
        .iter()
        .any(|finding| finding.is_refused() && touched.contains(&finding.inode))
    {
        return Err(misfit(JournalRefusal::Inconsistent));
    }
    let table = RowTable::new(connection);
    let write = || -> rusqlite::Result<()> {
        for inode in touched {
            let at = rows
                .entries
                .binary_search_by_key(&inode.cast_signed(), |entry| entry.inode.cast_signed());
            match at {
                Ok(at) => table.replace(&rows.entries[at])?,
                Err(_) => table.delete(inode)?,
            }
        }
        table.put_root(root)
    };
    write().map_err(|source| RepairError::Write {
        path: database.to_owned(),
        source,
    })?;
    Ok(recovery.records.len())
}

fn empty_journal(directory: &Path) -> io::Result<()> {
    for path in journal_files(directory) {
        if path.exists() {
            OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
    }
    Ok(())
}
