//! The cluster log: a ring of log entries that every member keeps in memory.
//!
//! A member sends each entry it makes as a LOG message and its whole ring as its STATE at every change of the
//! membership; all members then merge the same rings and end with the same log. The bytes of entries and rings are
//! those of the C daemon, because peers read them. Nothing here does I/O, takes a lock or reads a clock.
//!
//! Start at [`ClusterLog`].

mod cluster_log;
mod digest;
mod dump;
mod duplicates;
mod entry;
mod escape;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod merge;
mod ring;

pub use cluster_log::{ClusterLog, MergeReport};
pub use digest::{text_digest, user_digest};
pub use dump::{DEFAULT_LIMIT, write_json_text};
pub use duplicates::Origin;
pub use entry::{Entry, EntryError, EntryView, MAX_ENTRY_SIZE, Submission};
pub use escape::escape;
pub use merge::{MAX_MERGED_SIZE, merge};
pub use ring::{RING_SIZE, Ring, RingError, RingView, Step, Walk};
