//! The tree behind `/etc/pve`, its rules, and the store that keeps it.

mod caller;
mod change;
mod checksum;
mod content;
mod entry;
mod finding;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guests;
mod index;
mod locks;
mod memdb;
mod observer;
mod operation;
mod statfs;
pub mod store;
mod tree;
mod versions;

pub use caller::{Caller, Plan, Reply, Submit};
pub use change::Change;
pub use checksum::{Digest, HashedEntry};
pub use content::splice;
pub use entry::{Entry, EntryKind, ROOT_INODE, RootState};
pub use finding::{Finding, Problem};
pub use guests::{Guest, GuestList};
pub use index::{Index, IndexEntry, IndexError};
pub use memdb::{Delivered, MemDb};
pub use observer::Observer;
pub use operation::{Operation, Stamp};
pub use statfs::Statfs;
pub use tree::{ListedEntry, Precheck, Rules, Snapshot, Tree};
pub use versions::VERSIONED_PATH_COUNT;
