//! [`Filesystem`](crate::fs::Filesystem) as the kernel sees it: the mount, the session, and the translation of requests.
//!
//! Only this module uses the `fuser` crate.

mod connection;
mod filesystem;
mod mount;
mod readers;
mod session;

pub use connection::Connection;
pub use filesystem::PveFilesystem;
pub use mount::{Mount, abort, clear_mount_point, detach, mount};
pub use readers::Readers;
pub use session::FuseSession;
