//! The state and its documents: as C daemons show them, and as clients and peers see them change.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod behaviour;
mod golden;
mod support;
