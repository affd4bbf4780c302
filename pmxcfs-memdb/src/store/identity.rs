//! Which file a path led to.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Device, inode number, and the time of creation, since inode numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// Device that the file is on.
    pub device: u64,
    /// Its inode number there.
    pub inode: u64,
    /// When it was made, nanoseconds since 1970; 0 on filesystems that do not know.
    pub created_ns: u64,
}

impl FileIdentity {
    /// Looks the path up. Never opens it: closing a second descriptor would drop SQLite's locks.
    ///
    /// # Errors
    /// As stat(2).
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            created_ns: metadata
                .created()
                .ok()
                .and_then(|created| created.duration_since(UNIX_EPOCH).ok())
                .and_then(|since| u64::try_from(since.as_nanos()).ok())
                .unwrap_or(0),
        })
    }
}
