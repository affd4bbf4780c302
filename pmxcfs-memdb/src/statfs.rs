//! What `statfs` reports.

use pmxcfs_api_types::limits::{BLOCK_SIZE, MAX_FILESYSTEM_SIZE, MAX_INODE_COUNT};

/// Largest name length that `statfs` reports. The tree itself has no limit.
const NAME_MAX: u32 = 256;

/// Size and use of the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks of the filesystem.
    pub blocks: u64,
    /// Blocks that are free, for everybody.
    pub blocks_free: u64,
    /// Inodes of the filesystem.
    pub files: u64,
    /// Inodes that are free.
    pub files_free: u64,
    /// Largest length of a name in bytes.
    pub name_max: u32,
}

impl Statfs {
    /// From the sum of all sizes in bytes, which is rounded up to blocks once, and the number of entries with the root.
    pub(crate) fn new(size_total: u64, entry_count: u64) -> Self {
        let block_size = u64::from(BLOCK_SIZE);
        let blocks = MAX_FILESYSTEM_SIZE / block_size;
        Self {
            block_size: BLOCK_SIZE,
            blocks,
            blocks_free: blocks.saturating_sub(size_total.div_ceil(block_size)),
            files: MAX_INODE_COUNT,
            files_free: MAX_INODE_COUNT.saturating_sub(entry_count),
            name_max: NAME_MAX,
        }
    }
}
