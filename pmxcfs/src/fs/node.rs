//! Node ids, by which the kernel knows names and plugins.
//!
//! | top bits | meaning |
//! |---|---|
//! | `0` | a name, numbered by the inode that the id was given out for; the root (0 in the tree) is 1 |
//! | `10` | plugin, index in the low bits |
//! | `11` | a name whose inode's number another name has, or that does not fit above: drawn from a counter |

use pmxcfs_memdb::ROOT_INODE;

/// Node id of the root directory.
pub const ROOT_ID: u64 = 1;

const NOT_PLAIN: u64 = 1 << 63;
const DRAWN: u64 = NOT_PLAIN | 1 << 62;

/// What a node id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// A name in the tree, by its node id.
    Name(u64),
    /// A plugin, by its index.
    Plugin(usize),
}

impl Node {
    pub(super) fn of(id: u64) -> Self {
        match id & DRAWN {
            NOT_PLAIN => Self::Plugin(usize::try_from(id & !NOT_PLAIN).unwrap_or(usize::MAX)),
            _ => Self::Name(id),
        }
    }
}

/// Node id of a plugin.
pub(super) fn plugin_id(index: usize) -> u64 {
    NOT_PLAIN | index as u64
}

/// Node id that an entry of the tree has if no other name has taken it.
pub(super) fn natural_id(inode: u64) -> u64 {
    if inode == ROOT_INODE { ROOT_ID } else { inode }
}

/// Whether a name can have the inode's number as its node id.
pub(super) fn is_plain(inode: u64) -> bool {
    inode != ROOT_ID && inode & NOT_PLAIN == 0
}

/// The node id that a counter gives.
pub(super) fn drawn_id(count: u64) -> u64 {
    DRAWN | count
}
