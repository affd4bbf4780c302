//! Files that are not in the tree: generated documents and links in the root of the mount.

mod debug;
mod registry;

pub use debug::DebugSwitch;
pub use registry::{Content, GeneratedFile, Plugin, ReadOnly, Registry};
