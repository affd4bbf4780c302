//! What an operator should know about a start that succeeded.

use std::path::PathBuf;

use super::foreign_log::ForeignLog;
use super::journal::JournalRefusal;
use crate::Finding;

/// What an operator should know about a start that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The log beside the database is of another state.
    #[error(transparent)]
    ForeignLog(ForeignLog),
    /// A row is odd.
    #[error("{} - {}", .0, .0.advice())]
    Row(Finding),
    /// Operations were recovered from the crash journal: the daemon did not end in good order.
    #[error("recovered {operation_count} operations from the crash journal")]
    Recovered {
        /// How many.
        operation_count: usize,
    },
    /// Records in the crash journal were left out: nobody was told that they are safe.
    #[error(
        "left out {operation_count} operations of the crash journal that were never acknowledged"
    )]
    Incomplete {
        /// How many.
        operation_count: usize,
    },
    /// The crash journal was not applied.
    #[error("the crash journal is not applied: {reason}{}", kept_as(kept))]
    JournalRefused {
        /// Why.
        reason: JournalRefusal,
        /// Where it was put.
        kept: Vec<PathBuf>,
    },
    /// The database had zero bytes and counts as a new one.
    #[error("the file had 0 bytes; this counts as a first start")]
    WasEmpty,
    /// There was no database, and a log of one, which is not applied to the new database.
    #[error(
        "the file was missing and its log was there; this is a first start, and the log is kept as {}",
        kept.display()
    )]
    LogKept {
        /// Where it was put.
        kept: PathBuf,
    },
    /// There is no crash journal.
    #[error("there is no crash journal, changes wait for the database: {reason}")]
    NoJournal {
        /// Why.
        reason: String,
    },
}

fn kept_as(kept: &[PathBuf]) -> String {
    let paths: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    match paths.is_empty() {
        true => String::new(),
        false => format!("; it is kept as {}", paths.join(" and ")),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
