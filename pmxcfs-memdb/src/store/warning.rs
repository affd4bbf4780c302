//! What an operator should know about a start that succeeded.

use std::fmt;
use std::path::PathBuf;

use super::foreign_log::ForeignLog;
use super::journal::JournalRefusal;
use crate::Finding;

/// What an operator should know about a start that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The log beside the database is of another state.
    ForeignLog(ForeignLog),
    /// A row is odd.
    Row(Finding),
    /// Operations were recovered from the crash journal: the daemon did not end in good order.
    Recovered {
        /// How many.
        operation_count: usize,
    },
    /// Records in the crash journal were left out: nobody was told that they are safe.
    Incomplete {
        /// How many.
        operation_count: usize,
    },
    /// The crash journal was not applied.
    JournalRefused {
        /// Why.
        reason: JournalRefusal,
        /// Where it was put.
        kept: Vec<PathBuf>,
    },
    /// The database had zero bytes and counts as a new one.
    WasEmpty,
    /// There was no database, and a log of one, which is not applied to the new database.
    LogKept {
        /// Where it was put.
        kept: PathBuf,
    },
    /// There is no crash journal.
    NoJournal {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignLog(log) => log.fmt(f),
            Self::Row(finding) => write!(f, "{finding} - {}", finding.advice()),
            Self::Recovered { operation_count } => {
                write!(
                    f,
                    "recovered {operation_count} operations from the crash journal"
                )
            }
            Self::Incomplete { operation_count } => {
                write!(
                    f,
                    "left out {operation_count} operations of the crash journal that were never acknowledged"
                )
            }
            Self::JournalRefused { reason, kept } => {
                write!(f, "the crash journal is not applied: {reason}")?;
                let mut before = "; it is kept as ";
                for path in kept {
                    write!(f, "{before}{}", path.display())?;
                    before = " and ";
                }
                Ok(())
            }
            Self::WasEmpty => f.write_str("the file had 0 bytes; this counts as a first start"),
            Self::LogKept { kept } => write!(
                f,
                "the file was missing and its log was there; this is a first start, and the log is kept as {}",
                kept.display()
            ),
            Self::NoJournal { reason } => {
                write!(
                    f,
                    "there is no crash journal, changes wait for the database: {reason}"
                )
            }
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
