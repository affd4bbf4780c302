//! Types that all layers of pmxcfs share.
//!
//! A rule that two crates have to agree on (which paths are private, what a guest config is called, which errno an
//! error becomes) lives here once. This crate depends on none of the others and does no I/O.

mod error;
pub mod figures;
pub mod files;
mod ids;
pub mod limits;
pub mod names;
pub mod path;
pub mod sync;
pub mod text;
pub mod time;
mod vm_type;

pub use error::{FsError, Result};
pub use ids::{NodeId, Vmid};
pub use vm_type::VmType;
