//! The documents that clients read, as text.
//!
//! Each function makes one document from values, down to the C daemon's white space. Where that daemon prints in the
//! order of its hash tables, nodes come in order of their ids, guests of their numbers and keys of their bytes.

mod guests;
mod members;
mod version;

pub use guests::guest_list;
pub use members::members;
pub use version::{TreeVersions, version};
