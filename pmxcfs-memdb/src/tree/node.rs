//! One entry in the tree, with what is derived from it and its place.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    checksum::{Digest, HashedEntry},
    entry::{Entry, EntryKind},
};

/// One row of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The entry.
    pub inode: u64,
    /// File or directory.
    pub kind: EntryKind,
    /// Its name in the directory.
    pub name: Bytes,
}

/// What a directory has beside its entry.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Bytes, u64>,
    /// Absent if no chain of directories leads to it from the root.
    pub(super) privacy: Option<Privacy>,
    pub(super) listing: OnceLock<Arc<[ListedEntry]>>,
}

impl Directory {
    pub(super) fn root() -> Self {
        Self {
            privacy: Some(Privacy::Root),
            ..Self::default()
        }
    }
}

/// Which paths are private, told at one directory: `priv`, `nodes/NODE/priv`, and everything below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// The root.
    Root,
    /// The directory `nodes`.
    Nodes,
    /// A directory in `nodes`.
    Node,
    /// Private, and everything below is.
    All,
    /// Nothing below is private.
    Nothing,
}

impl Privacy {
    /// That of the child directory with this name.
    pub(super) fn child(self, name: &[u8]) -> Self {
        match self {
            _ if self.covers_child(name) => Self::All,
            Self::Root if name == b"nodes" => Self::Nodes,
            Self::Nodes => Self::Node,
            _ => Self::Nothing,
        }
    }

    pub(super) fn covers_child(self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Root | Self::Node => name == b"priv",
            Self::Nodes | Self::Nothing => false,
        }
    }
}

/// An entry, its directory if it is one, and its digest once somebody asked for it.
///
/// [`Node::entry_mut`] drops the digest, so a digest that is there is right.
#[derive(Debug)]
pub(super) struct Node {
    entry: Entry,
    /// Present in directories only.
    pub(super) directory: Option<Box<Directory>>,
    digest: OnceLock<Box<Digest>>,
}

impl Node {
    /// A directory has no children, and is not known to be reachable yet.
    pub(super) fn new(entry: Entry) -> Self {
        Self {
            directory: entry.is_directory().then(Box::default),
            entry,
            digest: OnceLock::new(),
        }
    }

    /// The same with its digest.
    pub(super) fn hashed(hashed: HashedEntry) -> Self {
        let mut node = Self::new(hashed.entry);
        node.digest = OnceLock::from(Box::new(hashed.digest));
        node
    }

    pub(super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn entry_mut(&mut self) -> &mut Entry {
        self.digest.take();
        &mut self.entry
    }

    pub(super) fn into_entry(self) -> Entry {
        self.entry
    }

    /// The entry's index digest, remembered until the entry changes.
    pub(super) fn index_digest(&self) -> Digest {
        **self
            .digest
            .get_or_init(|| Box::new(self.entry.index_digest()))
    }
}

#[cfg(test)]
impl Node {
    /// Whether the digest need not be computed.
    pub(super) fn knows_digest(&self) -> bool {
        self.digest.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_the_room_that_the_architecture_says() {
        assert_eq!((size_of::<Entry>(), size_of::<Node>()), (104, 128));
    }
}
