//! Sizes and counts that clients, peers or the disk format depend on.

/// Largest file, in bytes. Checked on every write, not on load.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// Size of the filesystem as `statfs` reports it, in bytes.
pub const MAX_FILESYSTEM_SIZE: u64 = 128 * 1024 * 1024;

/// Number of inodes as `statfs` reports it, root included.
pub const MAX_INODE_COUNT: u64 = 256 * 1024;

/// Block size in `statfs` and `stat`, in bytes.
pub const BLOCK_SIZE: u32 = 4096;

/// Largest read or write request that reaches the filesystem, in bytes. One request is one replicated message.
pub const MAX_REQUEST_SIZE: u32 = 128 * 1024;

/// Age in whole seconds that a lock directory must exceed to be taken away.
pub const LOCK_TIMEOUT_SECS: u64 = 120;

/// Largest status value that a client may set, in bytes.
pub const MAX_STATUS_VALUE_SIZE: usize = 32 * 1024;

/// Largest IPC message (header and body) that is agreed on, in bytes.
pub const MAX_IPC_MESSAGE_SIZE: u32 = 1024 * 1024;
