//! The crash journal: redo records of what is acknowledged and not yet in the database.
//!
//! It lives in the RAM-backed run directory, so that it costs no disk write and survives the death of the process but
//! not that of the machine: as much as the C daemon's unsynced SQLite log promises.
//!
//! | module | job |
//! |---|---|
//! | `record`, `segment` | the bytes |
//! | `files` | the files |
//! | `writing` | adding records, freeing them |
//! | `replay` | what a journal found at start means for the database |
//! | `resume` | a start: finding a journal, and going on with it |

mod files;
mod record;
mod replay;
mod resume;
mod segment;
mod writing;

pub use files::journal_files;
pub(crate) use files::{JournalPlace, SEGMENT_COUNT, free_name, open_segment};
pub(crate) use record::encode;
pub use record::{JournalRecord, JournalStep};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use record::{put_root, seal};
pub use replay::JournalRefusal;
pub(crate) use replay::{Recovery, apply, plan};
pub(crate) use resume::find;
pub(crate) use segment::scan;
pub use segment::{JournalFile, JournalHeader, SegmentError};
pub(crate) use writing::Journal;
