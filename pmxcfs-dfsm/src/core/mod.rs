//! The protocol, as a value that turns events into actions.
//!
//! [`Machine`] is the only entry. `machine` holds the state, requests and sending, `hold` says which requests wait, `membership`
//! handles changes of the membership, `deliver` delivered messages in each mode, `sync` the exchange of states, `verify` the
//! comparison of checksums; `queue`, `doubtful`, `backlog`, `outbox`, `verifier` and `backoff` are the parts that know nothing of
//! the others.

mod backlog;
mod backoff;
mod deliver;
mod doubtful;
mod event;
mod hold;
mod machine;
mod membership;
mod mode;
mod outbox;
mod queue;
mod sync;
mod verifier;
mod verify;

pub use event::{Action, Event, LogLevel, MemberId, Now, QuorumView, RequestId};
pub use machine::{Machine, Status, Waiting};
pub use mode::Mode;
