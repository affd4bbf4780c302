//! The store: keeps the tree in `config.db` without making anybody wait for a disk.
//!
//! Memory is the truth. An operation is applied to the tree, recorded here ([`StoreHandle::record`]), and acknowledged
//! ([`StoreHandle::acknowledge`]) as soon as its redo record is in the crash journal, a file in the RAM-backed run
//! directory. One thread collapses what was touched to the last state of each entry and commits that to SQLite, at most
//! every 50 ms while operations keep coming. So a file that is written in a thousand pieces reaches the
//! disk a few times, not a thousand times, and a killed daemon still loses nothing that was acknowledged.
//!
//! | module | job |
//! |---|---|
//! | `schema` | the database file: opening, table, identity |
//! | `load`, `finding` | reading and checking the rows |
//! | `redo`, `segment` | the journal's bytes |
//! | `recover`, `resume` | what a journal found at start means, and going on with it |
//! | `journal` | writing the journal |
//! | `queue`, `handle` | what mutators do |
//! | `writer`, `batch`, `pacing`, `log_state` | what the thread does, and when |
//! | `backend` | seams to SQLite and the files |
//! | `create` | a whole database at once, for tools |
//! | `discarded` | what a sync took away, as files for the operator |
//! | `offline` | a database and its journal as a start would see them, without changing anything, for tools |
//! | `inspect` | the journal's files as they are, for tools |
//! | `repair` | rows of a database that does not load, mended, for tools |

mod backend;
mod batch;
mod create;
mod discarded;
mod finding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handle;
mod inspect;
mod journal;
mod load;
mod log_state;
mod offline;
mod open;
mod pacing;
mod queue;
mod recover;
mod redo;
mod repair;
mod resume;
mod schema;
mod segment;
mod stats;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use backend::{
    Backend, BackendError, Checkpoint, Medium, Origin, SegmentFile, SqliteBackend, SystemMedium,
};
pub use create::{CreateError, create};
pub use discarded::{Discarded, SaveError, Saved, save_discarded};
pub use finding::{Finding, Problem};
pub use handle::{StoreHandle, Ticket};
pub use inspect::{
    InspectError, JournalFile, JournalRecord, JournalStep, journal_files, read_journal_file,
};
pub use offline::{
    Access, ExamineError, Examined, ForeignLog, JournalUse, examine, foreign_log, integrity,
};
pub use open::{Loaded, Report, Store, StoreError, Warning, check};
pub use recover::JournalRefusal;
pub use repair::{Repair, RepairError, Repaired, empty_journal, repair, salvage};
pub use schema::OpenError;
pub use segment::SegmentError;
pub use stats::StoreStats;

use crate::{Entry, RootState};

/// Where the store keeps what.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database.
    pub database: PathBuf,
    /// Directory for the crash journal. Without one every operation is acknowledged when it is in the database.
    pub journal_dir: Option<PathBuf>,
    /// Most bytes of records in the crash journal. What does not fit is acknowledged when it is in the database. The files
    /// keep room for what comes next, so they may be larger than what is in them.
    pub journal_limit_bytes: u64,
    /// How files are reached.
    pub medium: Arc<dyn Medium>,
}

impl StoreConfig {
    /// The usual limits and the real files.
    #[must_use]
    pub fn new(database: impl Into<PathBuf>, journal_dir: Option<PathBuf>) -> Self {
        Self {
            database: database.into(),
            journal_dir,
            journal_limit_bytes: 64 * 1024 * 1024,
            medium: Arc::new(SystemMedium),
        }
    }
}

/// Finds an entry by its inode.
pub type EntryLookup<'a> = &'a dyn Fn(u64) -> Option<Entry>;

/// The tree, as the store's thread reads it.
pub trait EntrySource: Send + Sync + 'static {
    /// Calls `visit` once, with the root state and a lookup by inode, while nobody can change the tree. `visit` is short
    /// and does no I/O.
    fn with_entries(&self, visit: &mut dyn FnMut(RootState, EntryLookup<'_>));
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownOutcome {
    /// Everything is in the database, and only the database file is left.
    Clean,
    /// Everything is in the database; another process has it open, so SQLite's log stays beside it.
    LogKept,
    /// Not everything could be committed. The crash journal stays, and the next start applies it.
    JournalKept {
        /// Why.
        reason: String,
    },
    /// Not everything could be committed, and the crash journal does not have it either.
    Lost {
        /// Why.
        reason: String,
    },
    /// The disk did not answer within the deadline. The crash journal stays.
    Unfinished {
        /// The deadline.
        deadline: Duration,
    },
}
