//! `/etc/pve` as the kernel sees it.
//!
//! Only this module uses the `fuser` crate. It translates: node numbers to entries, requests to [`pmxcfs_memdb::Operation`]s,
//! entries to attributes. No handler waits for anything: reads are answered from memory, mutations carry their reply with
//! them and are answered by whoever completes them.

mod attr;
mod filesystem;
mod handles;
mod inodes;
mod listing;
mod lookups;
mod mount;
mod mutation;
mod references;
mod session;
mod shared;
mod walks;

pub use attr::Ownership;
pub use filesystem::PveFilesystem;
pub use mount::{Mount, MountError, clear_mount_point, detach, mount};
pub use references::KernelReferences;
pub use session::FuseSession;
