//! `/etc/pve` as a filesystem, without a mount.
//!
//! [`Filesystem`] answers what a kernel asks for, in terms of its own: node ids stand for names (`names`), handles for what is
//! open (`handles`). Reads are answered from memory; a change goes on its way with its reply and is answered by whoever completes
//! it, so nothing here waits. What the kernel knows outlives the process (`tables`). What turns requests of FUSE into calls of this is in [`crate::fuse`].

mod answers;
mod attributes;
mod changes;
mod debug_switch;
mod filesystem;
mod handles;
mod name_index;
mod names;
mod node;
mod open;
mod plugins;
mod request;
mod request_header;
mod second_walks;
mod tables;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "fuzzing takes the model from the tests")
)]
#[expect(
    clippy::unwrap_used,
    reason = "clippy does not take it for a module of tests"
)]
pub(crate) mod tests;
mod ways;

pub use attributes::{Attributes, Kind};
pub use changes::{Created, IfExists, NewAttributes, WriteAt};
pub use debug_switch::DebugSwitch;
pub use filesystem::Filesystem;
pub use node::ROOT_ID;
pub use open::Listed;
pub use plugins::{Content, GeneratedFile, Plugin, Plugins};
pub use request::Respond;
pub use request_header::RequestHeader;
pub use tables::{Agreement, Tables, TablesError};
