//! Connections to corosync. Nothing outside of this folder knows the types of the binding.
//!
//! The binding holds a lock of the whole process while it runs a callback, its callbacks are plain functions, and the
//! context it offers them is unusable right after a connection is made. So callbacks do nothing but copy their arguments into
//! an inbox of the thread, which the dispatching call empties when it comes back.

mod cmap;
mod cpg;
mod error;
mod inbox;
mod quorum;
mod readiness;

pub use cmap::{Cmap, CmapValue};
pub use cpg::{Cpg, SendError};
pub use error::CorosyncError;
pub use quorum::Quorum;
