//! What a mutation did, in the terms that the store and the kernel's caches need.

use bytes::Bytes;

/// One effect of an applied operation. An operation reports its effects in the order in which they happened; replaying
/// them on the state before gives the state after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An entry was made, or its name, place, version, writer or mtime changed. Its content did not.
    Put {
        /// The entry.
        inode: u64,
    },
    /// A file's content changed (and with it version, writer, mtime): cut to `keep` bytes, extended with zeros to
    /// `offset`, `data` laid over at `offset`, extended with zeros or cut to `size`. [`splice`](crate::splice) does it.
    ///
    /// A content of which no byte is former content and no byte is written is not zeros but *no data*: when `keep` is 0
    /// (or the former content is empty) and `data` is empty, the entry afterwards has `size` and no data, a hole if
    /// `size` is above 0.
    Content {
        /// The file.
        inode: u64,
        /// How many bytes of the former content stay at most.
        keep: u32,
        /// Where `data` begins.
        offset: u32,
        /// The bytes written.
        data: Bytes,
        /// Size afterwards.
        size: u32,
    },
    /// An entry is gone.
    Removed {
        /// The entry.
        inode: u64,
        /// Directory it was in.
        parent: u64,
        /// Name it had there.
        name: Bytes,
    },
}

impl Change {
    /// The entry that it is about.
    pub fn inode(&self) -> u64 {
        match self {
            Self::Put { inode } | Self::Content { inode, .. } | Self::Removed { inode, .. } => {
                *inode
            }
        }
    }
}
