//! [`Filesystem`](crate::fs::Filesystem) as the kernel sees it: the mount, the session, and the translation of requests.
//!
//! Only this module uses the `fuser` crate.

mod filesystem;
mod mount;
mod session;

pub use filesystem::PveFilesystem;
pub use mount::{Mount, MountError, clear_mount_point, detach, mount};
pub use session::FuseSession;
