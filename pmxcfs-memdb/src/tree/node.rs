//! One entry in the tree, with what is derived from it alone.

use std::sync::OnceLock;

use super::Directory;
use crate::{checksum::Digest, entry::Entry};

/// An entry, its directory if it is one, and its digest once somebody asked for it.
///
/// Whoever gets the entry to change it drops the digest by that, so a digest that is there is right.
#[derive(Debug)]
pub(super) struct Node {
    entry: Entry,
    /// Present in directories only.
    pub(super) directory: Option<Box<Directory>>,
    digest: OnceLock<Box<Digest>>,
}

impl Node {
    /// A directory has no children and no place yet.
    pub(super) fn new(entry: Entry) -> Self {
        Self {
            directory: entry.is_directory().then(Box::default),
            entry,
            digest: OnceLock::new(),
        }
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

    /// Takes over the digest of a node with the same entry. Contents are the same if they are the same memory, so this
    /// looks at none.
    pub(super) fn learn_digest(&self, other: &Self) {
        if let Some(digest) = other.digest.get()
            && self.digest.get().is_none()
            && is_same(&self.entry, &other.entry)
        {
            // Another thread may have computed it meanwhile.
            let _result = self.digest.set(digest.clone());
        }
    }
}

fn is_same(a: &Entry, b: &Entry) -> bool {
    let fields = |entry: &Entry| {
        (
            entry.inode,
            entry.parent,
            entry.version,
            entry.writer,
            entry.mtime,
            entry.size,
            entry.kind,
        )
    };
    let (one, other) = (&a.data, &b.data);
    fields(a) == fields(b)
        && a.name == b.name
        && one.len() == other.len()
        && (one.is_empty() || one.as_ptr() == other.as_ptr())
}

#[cfg(test)]
impl Node {
    /// Whether the digest need not be computed.
    pub(super) fn knows_digest(&self) -> bool {
        self.digest.get().is_some()
    }
}
