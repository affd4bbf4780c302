//! The store's thread: what mutators hand to it, when it commits, and how it ends.
//!
//! | module | job |
//! |---|---|
//! | `queue`, `handle` | what mutators do |
//! | `thread` | what comes next |
//! | `commit`, `batch` | a transaction, its retries, SQLite's log |
//! | `replace`, `stop` | another tree; the end |
//! | `trail` | what a history is told |
//! | `pacing`, `log_state` | when; without clocks |

mod batch;
mod commit;
mod handle;
mod log_state;
mod pacing;
mod queue;
mod replace;
mod stats;
mod stop;
mod thread;
mod trail;

pub use batch::{EntryLookup, EntrySource};
pub(crate) use commit::Committer;
pub use handle::Ticket;
pub(crate) use pacing::early_size;
pub(crate) use queue::Queue;
pub use queue::{ShutdownOutcome, StoreHandle};
pub use stats::{ScrubStats, StoreStats};
pub(crate) use thread::run;
pub use trail::{
    Asker, CommitSink, Committed, Effect, Former, FormerKind, Step, Synchronisation,
    TRAIL_LIMIT_BYTES,
};
