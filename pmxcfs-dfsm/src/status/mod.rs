//! The status group: keys of all nodes and the cluster log.
//!
//! Nothing here is kept; the soft state is behind [`StatusStore`]. A message that makes no sense is dropped, never a
//! reason to leave, and every member is synced with the last state.

mod apply;
pub mod wire;

pub use apply::{StatusGroup, StatusRequest, StatusStore};
