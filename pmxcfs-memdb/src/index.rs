//! The index: inode and digest of every entry, which members of a cluster exchange to find what they differ in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{checksum::Digest, entry::RootState};

/// Length of the fields before the first entry, in bytes.
const HEADER_LENGTH: usize = 32;

/// Length of one entry, in bytes.
const ENTRY_LENGTH: usize = 40;

/// One entry as it is sent.
type Chunk = [u8; ENTRY_LENGTH];

/// Inode and digest of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The entry.
    pub inode: u64,
    /// Its [`Entry::index_digest`](crate::Entry::index_digest).
    pub digest: Digest,
}

/// What one member holds, in the short form that is exchanged when a group changes. It is kept as the bytes that are sent, since
/// it has megabytes and members mostly compare whole indexes.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | root version |
/// | 8 | 8 | highest inode |
/// | 16 | 4 | root writer |
/// | 20 | 4 | root mtime |
/// | 24 | 4 | number of entries n, root included |
/// | 28 | 4 | total length, 32 + 40 n |
/// | 32 | 40 n | inode (8) and index digest (32) of each entry, ascending |
///
/// All integers are little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    bytes: Bytes,
}

/// Why bytes are not an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Shorter than the header.
    #[error("index of {0} bytes is shorter than its header")]
    Short(usize),
    /// The length field is not the length.
    #[error("index says it is {stated} bytes long and has {actual}")]
    Length {
        /// Length as the header gives it.
        stated: u32,
        /// Length of what was received.
        actual: usize,
    },
    /// The number of entries does not fit the length.
    #[error("index says it has {stated} entries, which does not fit its {actual} bytes")]
    Count {
        /// Number of entries as the header gives it.
        stated: u32,
        /// Length of what was received.
        actual: usize,
    },
    /// Inodes do not ascend.
    #[error("index has inode {inode} behind inode {previous}")]
    Order {
        /// The inode before.
        previous: u64,
        /// The inode that is not larger.
        inode: u64,
    },
}

impl Index {
    /// The index of entries in ascending order of inodes, the root included.
    pub fn new(root: RootState, entries: impl ExactSizeIterator<Item = IndexEntry>) -> Self {
        let length = HEADER_LENGTH + ENTRY_LENGTH * entries.len();
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut buffer = BytesMut::with_capacity(length);
        buffer.put_u64_le(root.version);
        buffer.put_u64_le(0);
        buffer.put_u32_le(root.writer);
        buffer.put_u32_le(root.mtime);
        buffer.put_u32_le(count);
        buffer.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
        let mut last_inode = 0;
        for entry in entries {
            last_inode = entry.inode;
            buffer.put_u64_le(entry.inode);
            buffer.put_slice(&entry.digest);
        }
        (&mut buffer[8..16]).put_u64_le(last_inode);
        Self {
            bytes: buffer.freeze(),
        }
    }

    /// Reads an index. Every length must be exact and the inodes must ascend; what the fields mean is not judged.
    ///
    /// # Errors
    /// What makes the bytes not an index.
    pub fn decode(bytes: &Bytes) -> Result<Self, IndexError> {
        let actual = bytes.len();
        if actual < HEADER_LENGTH {
            return Err(IndexError::Short(actual));
        }
        let (count, stated) = ((&bytes[24..]).get_u32_le(), (&bytes[28..]).get_u32_le());
        if usize::try_from(stated) != Ok(actual) {
            return Err(IndexError::Length { stated, actual });
        }
        let (chunks, rest) = bytes[HEADER_LENGTH..].as_chunks();
        if !rest.is_empty() || usize::try_from(count) != Ok(chunks.len()) {
            return Err(IndexError::Count {
                stated: count,
                actual,
            });
        }
        let chunks: &[Chunk] = chunks;
        let inodes = chunks.iter().map(inode_of);
        let mut pairs = inodes.clone().zip(inodes.skip(1));
        if let Some((previous, inode)) = pairs.find(|(previous, inode)| previous >= inode) {
            return Err(IndexError::Order { previous, inode });
        }
        Ok(Self {
            bytes: bytes.clone(),
        })
    }

    /// The form in which it is sent.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Version, writer and mtime of the database.
    pub fn root(&self) -> RootState {
        RootState {
            version: (&self.bytes[0..]).get_u64_le(),
            writer: (&self.bytes[16..]).get_u32_le(),
            mtime: (&self.bytes[20..]).get_u32_le(),
        }
    }

    /// The entries in ascending order of inodes, root included.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = IndexEntry> {
        self.chunks().iter().map(|chunk| {
            let mut digest = Digest::default();
            digest.copy_from_slice(&chunk[8..]);
            IndexEntry {
                inode: inode_of(chunk),
                digest,
            }
        })
    }

    fn chunks(&self) -> &[Chunk] {
        self.bytes[HEADER_LENGTH..].as_chunks().0
    }

    /// Inodes of the entries that `other` lacks or has with another digest: what a leader with this index sends to a
    /// member with the other one.
    pub fn changed_against<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.compare(other, |mine, their| their != Some(mine))
    }

    /// Inodes of the entries that `other` lacks: what a member with this index removes when it follows a leader with
    /// the other one.
    pub fn absent_from<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.compare(other, |_mine, their| their.is_none())
    }

    /// Inodes of the entries for which `is_meant`, given the entry of `other` with the same inode.
    fn compare<'a>(
        &'a self,
        other: &'a Self,
        is_meant: fn(&Chunk, Option<&Chunk>) -> bool,
    ) -> impl Iterator<Item = u64> + 'a {
        let mut theirs = other.chunks().iter().peekable();
        self.chunks().iter().filter_map(move |mine| {
            let inode = inode_of(mine);
            while theirs.next_if(|their| inode_of(their) < inode).is_some() {}
            let their = theirs.next_if(|their| inode_of(their) == inode);
            is_meant(mine, their).then_some(inode)
        })
    }
}

fn inode_of(chunk: &Chunk) -> u64 {
    (&chunk[..]).get_u64_le()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Index, IndexEntry, IndexError};
    use crate::entry::RootState;

    fn index(entries: &[(u64, u8)]) -> Index {
        let entries = entries.iter().map(|(inode, fill)| IndexEntry {
            inode: *inode,
            digest: [*fill; 32],
        });
        let root = RootState {
            version: 0x0102_0304_0506_0708,
            writer: 9,
            mtime: 10,
        };
        Index::new(root, entries)
    }

    #[test]
    fn every_wrong_length_is_refused() {
        let good = index(&[(0, 1), (5, 2)]).bytes().clone();
        assert_eq!(good.len(), 112);
        for length in 0..good.len() {
            let error = Index::decode(&good.slice(..length)).expect_err("cut");
            if length < 32 {
                assert_eq!(error, IndexError::Short(length));
            } else {
                let stated = 112;
                assert_eq!(
                    error,
                    IndexError::Length {
                        stated,
                        actual: length
                    }
                );
            }
        }
        for count in [0, 1, 3, u32::MAX] {
            let mut bad = good.to_vec();
            bad[24..28].copy_from_slice(&count.to_le_bytes());
            let error = IndexError::Count {
                stated: count,
                actual: 112,
            };
            assert_eq!(Index::decode(&bad.into()), Err(error));
        }
        for stated in [0, 111, 113, u32::MAX] {
            let mut bad = good.to_vec();
            bad[28..32].copy_from_slice(&stated.to_le_bytes());
            let error = IndexError::Length {
                stated,
                actual: 112,
            };
            assert_eq!(Index::decode(&bad.into()), Err(error));
        }
        let mut long = good.to_vec();
        long.push(0);
        long[28..32].copy_from_slice(&113u32.to_le_bytes());
        assert!(matches!(
            Index::decode(&long.into()),
            Err(IndexError::Count { .. })
        ));
    }

    #[test]
    fn inodes_must_ascend() {
        for (entries, previous, inode) in [([(0, 1), (0, 1)], 0, 0), ([(7, 1), (3, 1)], 7, 3)] {
            let bytes = index(&entries).bytes().clone();
            assert_eq!(
                Index::decode(&bytes),
                Err(IndexError::Order { previous, inode })
            );
        }
    }

    #[test]
    fn differences_of_two_indexes() {
        let leader = index(&[(0, 1), (2, 1), (3, 1), (9, 1)]);
        let member = index(&[(0, 2), (2, 1), (4, 1), (5, 1), (9, 9), (12, 1)]);
        let changed: Vec<u64> = leader.changed_against(&member).collect();
        assert_eq!(changed, [0, 3, 9]);
        let removed: Vec<u64> = member.absent_from(&leader).collect();
        assert_eq!(removed, [4, 5, 12]);
        assert_eq!(leader.changed_against(&leader).count(), 0);
        assert_eq!(leader.changed_against(&index(&[])).count(), 4);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them_or_are_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            fix_lengths: bool,
        ) {
            if fix_lengths && bytes.len() >= 32 {
                let count = u32::try_from((bytes.len() - 32) / 40).expect("short");
                let length = u32::try_from(bytes.len()).expect("short");
                bytes[24..28].copy_from_slice(&count.to_le_bytes());
                bytes[28..32].copy_from_slice(&length.to_le_bytes());
            }
            if let Ok(index) = Index::decode(&bytes.into()) {
                let mut made = Index::new(index.root(), index.entries()).bytes().to_vec();
                // What an index says of its highest inode is not judged.
                made[8..16].copy_from_slice(&index.bytes()[8..16]);
                prop_assert_eq!(&made, index.bytes());
            }
        }
    }
}
