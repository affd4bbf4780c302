//! What entries may have that a tree cannot have, or should not.

use bytes::Bytes;
use pmxcfs_api_types::Vmid;

/// Why entries do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Two entries have the same inode, or one has that of the root.
    #[error("inode {0} occurs twice")]
    DuplicateInode(u64),
    /// The directory of an entry does not exist.
    #[error("entry '{}' (inode {inode}) is in a directory that does not exist (inode {parent})", name.escape_ascii())]
    MissingParent {
        /// The entry.
        inode: u64,
        /// Inode of its directory.
        parent: u64,
        /// Its name.
        name: Bytes,
    },
    /// Two entries of one directory have the same name.
    #[error("directory with inode {parent} has two entries called '{}' (inodes {first} and {second})", name.escape_ascii())]
    DuplicateName {
        /// The directory.
        parent: u64,
        /// The name.
        name: Bytes,
        /// One entry.
        first: u64,
        /// The other one.
        second: u64,
    },
    /// Two guest configs have the same id, on whatever nodes.
    #[error(
        "guest {vmid} has two configs, '{}' (inode {first_inode}) and '{}' (inode {second_inode}): an id can be used only \
         once in the whole cluster. Find out which one is in use, keep a copy of the other, and delete its row from the \
         table 'tree' of the database while the daemon is stopped",
        first.escape_ascii(), second.escape_ascii()
    )]
    DuplicateGuest {
        /// The id.
        vmid: Vmid,
        /// Path of one config.
        first: Bytes,
        /// Its inode.
        first_inode: u64,
        /// Path of the other config.
        second: Bytes,
        /// Its inode.
        second_inode: u64,
    },
}

/// What is wrong with entries that make a tree nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeWarning {
    /// A guest directory of a node is a file. It holds no guests; C daemons refuse to start with it.
    #[error("'{}' should be a directory: ignored in the search for guests, rename or remove it", path.escape_ascii())]
    GuestDirectoryIsFile {
        /// Where it is.
        path: Bytes,
    },
    /// No chain of directories leads from the root to an entry. It is kept, counted and replicated.
    #[error("entry '{}' (inode {inode}) cannot be reached: its directory (inode {parent}) is no directory or not below the root", name.escape_ascii())]
    Unreachable {
        /// The entry.
        inode: u64,
        /// What it names as its directory.
        parent: u64,
        /// Its name.
        name: Bytes,
    },
}
