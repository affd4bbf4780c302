//! The tree behind `/etc/pve`, its rules, and the store that keeps it.

mod change;
mod entry;
mod guests;
mod operation;

pub use change::Change;
pub use entry::{Entry, EntryKind, ROOT_INODE, RootState};
pub use guests::{Guest, GuestList};
pub use operation::{Operation, Stamp};
