//! One entry of the tree.

use bytes::Bytes;
use num_enum::TryFromPrimitive;

/// Inode of the root directory.
pub const ROOT_INODE: u64 = 0;

/// What holes read as: as many zeros as a file can be large.
pub(crate) static ZEROS: [u8; 1024 * 1024] = [0; 1024 * 1024];

/// Kind of an entry. The numbers are those of `dirent.d_type` and of the database column `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum EntryKind {
    /// A directory (4).
    Directory = 4,
    /// A regular file (8).
    File = 8,
}

/// State that belongs to the whole database: version, writer and mtime of its last successful change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RootState {
    /// Version of the database; grows by one with every successful change.
    pub version: u64,
    /// Node id of the last change, 0 in local mode.
    pub writer: u32,
    /// Time of the last change in seconds, as the operation gave it.
    pub mtime: u32,
}

/// One entry: everything that is stored and replicated of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Identity: the database version at creation. Never changes. 0 is the root.
    pub inode: u64,
    /// Inode of the directory that holds the entry.
    pub parent: u64,
    /// Database version of the last change of this entry.
    pub version: u64,
    /// Node id of the last change.
    pub writer: u32,
    /// Seconds, modulo 2^32.
    pub mtime: u32,
    /// Size in bytes, 0 for directories. Differs from the length of `data` only for a hole, see [`Entry::content`].
    pub size: u32,
    /// File or directory.
    pub kind: EntryKind,
    /// One path component; empty for the root.
    pub name: Bytes,
    /// Content of a file. Empty for directories, for empty files, and for holes.
    pub data: Bytes,
}

impl Entry {
    /// Whether this is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }
}
