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
//! | `open`, `first_start`, `warning` | a start |
//! | `config`, `medium`, `identity` | where things are, and seams to SQLite and the files |
//! | `journal` | the crash journal |
//! | `database` | the database file: table, rows, a whole database at once |
//! | `writer` | the thread, and what mutators hand to it |
//! | `error` | why something cannot be done |
//! | `foreign_log` | what can be wrong with SQLite's log |
//! | `discarded` | what a sync took away, as files for the operator |
//! | `offline`, `read_only` | a database and its journal as a start would see them, without changing anything, for tools |
//! | `inspect` | the journal's files as they are, for tools |
//! | `scrub` | compares the rows of the running daemon's database with the tree, and mends them |
//! | `repair` | rows of a database that does not load, mended, for tools |

mod config;
mod database;
mod discarded;
mod error;
mod first_start;
mod foreign_log;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod identity;
mod inspect;
mod journal;
mod medium;
mod offline;
mod open;
mod read_only;
mod repair;
mod scrub;
mod warning;
mod writer;

pub use config::{StoreConfig, SystemMedium};
pub use database::{SqliteBackend, create};
pub use discarded::{ACKNOWLEDGED, Discarded, Saved, save_discarded, unacknowledged_saves};
pub use error::StoreError;
pub use foreign_log::{ForeignLog, foreign_log};
pub use identity::FileIdentity;
pub use inspect::read_journal_file;
pub use journal::{
    JournalFile, JournalHeader, JournalRecord, JournalRefusal, JournalStep, SegmentError,
    journal_files,
};
pub use medium::{Backend, BackendError, Checkpoint, Medium, Origin, SegmentFile, StoredRow};
pub use offline::{Access, Examined, JournalUse, examine, integrity};
pub use open::{Loaded, Store};
pub use repair::{Repair, Repaired, empty_journal, repair, salvage};
pub use warning::Warning;
pub use writer::{
    Asker, CommitSink, Committed, Effect, EntryLookup, EntrySource, Former, FormerKind, ScrubStats,
    ShutdownOutcome, Step, StoreHandle, StoreStats, Synchronisation, TRAIL_LIMIT_BYTES, Ticket,
};
