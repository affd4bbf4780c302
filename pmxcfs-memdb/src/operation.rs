//! Operations on the tree, as FUSE asks for them and as messages carry them.

use bytes::Bytes;

/// One mutation. Paths are relative to the root, without leading slash as FUSE and peers send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make a directory.
    Mkdir {
        /// Path of the new directory.
        path: Bytes,
    },
    /// Make an empty file.
    Create {
        /// Path of the new file.
        path: Bytes,
    },
    /// Write to a file that exists, or truncate it.
    Write {
        /// Path of the file.
        path: Bytes,
        /// Where `data` begins. With `truncate` and no data: the new size.
        offset: u64,
        /// Bytes to lay over.
        data: Bytes,
        /// Cut the file behind the data.
        truncate: bool,
    },
    /// Remove a file or an empty directory.
    Delete {
        /// Path of the entry.
        path: Bytes,
    },
    /// Move a file or an empty directory, replacing what is there.
    Rename {
        /// Path of the entry.
        from: Bytes,
        /// Its new path.
        to: Bytes,
    },
    /// Set the mtime of an entry; refreshes a lock directory.
    SetMtime {
        /// Path of the entry.
        path: Bytes,
        /// New mtime in seconds; becomes the root's mtime too.
        mtime: u32,
    },
}

/// Who makes a change, and when. In cluster mode both come from the message, so that all nodes store the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Node id of the sender, 0 in local mode.
    pub writer: u32,
    /// Seconds.
    pub mtime: u32,
}
