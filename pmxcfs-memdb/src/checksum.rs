//! SHA-256 digests of entries and of the whole tree, as peers compute them.
//!
//! All integers are little-endian without padding, names without terminator. Data counts only where there is some; a
//! hole adds its size and nothing else.

use sha2::{Digest as _, Sha256};

use crate::entry::Entry;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// An entry with its [`Entry::index_digest`].
#[derive(Debug, Clone)]
pub struct HashedEntry {
    /// The entry.
    pub entry: Entry,
    /// Its digest.
    pub digest: Digest,
}

impl From<Entry> for HashedEntry {
    fn from(entry: Entry) -> Self {
        Self {
            digest: entry.index_digest(),
            entry,
        }
    }
}

impl Entry {
    /// Digest over inode, version, writer, mtime, size, type, parent, name and data: what lock records and unlock
    /// messages carry ("entry checksum").
    pub fn checksum(&self) -> Digest {
        let mut hash = Sha256::new();
        self.feed_with_inode(&mut hash);
        hash.finalize().into()
    }

    /// Digest over the same fields without the inode: what the index carries beside the inode.
    pub fn index_digest(&self) -> Digest {
        let mut hash = Sha256::new();
        self.feed(&mut hash);
        hash.finalize().into()
    }

    fn feed_with_inode(&self, hash: &mut Sha256) {
        hash.update(self.inode.to_le_bytes());
        self.feed(hash);
    }

    fn feed(&self, hash: &mut Sha256) {
        let mut fields = [0; 29];
        fields[0..8].copy_from_slice(&self.version.to_le_bytes());
        fields[8..12].copy_from_slice(&self.writer.to_le_bytes());
        fields[12..16].copy_from_slice(&self.mtime.to_le_bytes());
        fields[16..20].copy_from_slice(&self.size.to_le_bytes());
        fields[20] = self.kind as u8;
        fields[21..29].copy_from_slice(&self.parent.to_le_bytes());
        hash.update(fields);
        hash.update(&self.name);
        hash.update(&self.data);
    }
}

/// Digest over entries in this order.
pub(crate) fn whole<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Digest {
    let mut hash = Sha256::new();
    for entry in entries {
        entry.feed_with_inode(&mut hash);
    }
    hash.finalize().into()
}
