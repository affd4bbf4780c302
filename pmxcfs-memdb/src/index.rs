//! The index: inode and digest of every entry, which members of a cluster exchange to find what they differ in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{checksum::Digest, entry::RootState};

/// Length of the fields before the first entry, in bytes.
const HEADER_LENGTH: usize = 32;

/// Length of one entry, in bytes.
const ENTRY_LENGTH: usize = 40;

/// Inode and digest of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The entry.
    pub inode: u64,
    /// Its [`Entry::index_digest`](crate::Entry::index_digest).
    pub digest: Digest,
}

/// What one member holds, in the short form that is exchanged when a group changes.
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
    /// Version, writer and mtime of the database.
    pub root: RootState,
    /// Highest inode present.
    pub last_inode: u64,
    /// The entries in ascending order of inodes, root included.
    pub entries: Vec<IndexEntry>,
}

/// Why bytes are not an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    /// The form in which it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = HEADER_LENGTH + ENTRY_LENGTH * self.entries.len();
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let mut buffer = BytesMut::with_capacity(length);
        buffer.put_u64_le(self.root.version);
        buffer.put_u64_le(self.last_inode);
        buffer.put_u32_le(self.root.writer);
        buffer.put_u32_le(self.root.mtime);
        buffer.put_u32_le(count);
        buffer.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
        for entry in &self.entries {
            buffer.put_u64_le(entry.inode);
            buffer.put_slice(&entry.digest);
        }
        buffer.freeze()
    }

    /// Reads an index. Every length must be exact and the inodes must ascend; what the fields mean is not judged.
    ///
    /// # Errors
    /// What makes the bytes not an index.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, IndexError> {
        let actual = bytes.len();
        if actual < HEADER_LENGTH {
            return Err(IndexError::Short(actual));
        }
        let (version, last_inode) = (bytes.get_u64_le(), bytes.get_u64_le());
        let (writer, mtime) = (bytes.get_u32_le(), bytes.get_u32_le());
        let (count, stated) = (bytes.get_u32_le(), bytes.get_u32_le());
        if usize::try_from(stated) != Ok(actual) {
            return Err(IndexError::Length { stated, actual });
        }
        let (chunks, rest) = bytes.as_chunks::<ENTRY_LENGTH>();
        if !rest.is_empty() || usize::try_from(count) != Ok(chunks.len()) {
            return Err(IndexError::Count {
                stated: count,
                actual,
            });
        }
        let entries: Vec<IndexEntry> = chunks.iter().map(decode_entry).collect();
        let mut pairs = entries.windows(2);
        if let Some(pair) = pairs.find(|pair| pair[0].inode >= pair[1].inode) {
            return Err(IndexError::Order {
                previous: pair[0].inode,
                inode: pair[1].inode,
            });
        }
        Ok(Self {
            root: RootState {
                version,
                writer,
                mtime,
            },
            last_inode,
            entries,
        })
    }

    /// Inodes of the entries that `other` lacks or has with another digest: what a leader with this index sends to a
    /// member with the other one.
    pub fn changed_against<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let differs = |mine: &IndexEntry, their: Option<&IndexEntry>| their != Some(mine);
        self.compare(other, differs)
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
        is_meant: fn(&IndexEntry, Option<&IndexEntry>) -> bool,
    ) -> impl Iterator<Item = u64> + 'a {
        let mut theirs = other.entries.iter().peekable();
        self.entries.iter().filter_map(move |mine| {
            while theirs.next_if(|their| their.inode < mine.inode).is_some() {}
            let their = theirs.next_if(|their| their.inode == mine.inode);
            is_meant(mine, their).then_some(mine.inode)
        })
    }
}

fn decode_entry(chunk: &[u8; ENTRY_LENGTH]) -> IndexEntry {
    let mut fields = &chunk[..];
    let inode = fields.get_u64_le();
    let mut digest = Digest::default();
    fields.copy_to_slice(&mut digest);
    IndexEntry { inode, digest }
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
        Index {
            root: RootState {
                version: 0x0102_0304_0506_0708,
                writer: 9,
                mtime: 10,
            },
            last_inode: 77,
            entries: entries.collect(),
        }
    }

    #[test]
    fn every_wrong_length_is_refused() {
        let good = index(&[(0, 1), (5, 2)]).encode();
        assert_eq!(good.len(), 112);
        for length in 0..good.len() {
            let error = Index::decode(&good[..length]).expect_err("cut");
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
            assert_eq!(Index::decode(&bad), Err(error));
        }
        for stated in [0, 111, 113, u32::MAX] {
            let mut bad = good.to_vec();
            bad[28..32].copy_from_slice(&stated.to_le_bytes());
            let error = IndexError::Length {
                stated,
                actual: 112,
            };
            assert_eq!(Index::decode(&bad), Err(error));
        }
        let mut long = good.to_vec();
        long.push(0);
        long[28..32].copy_from_slice(&113u32.to_le_bytes());
        assert!(matches!(
            Index::decode(&long),
            Err(IndexError::Count { .. })
        ));
    }

    #[test]
    fn inodes_must_ascend() {
        for (entries, previous, inode) in [([(0, 1), (0, 1)], 0, 0), ([(7, 1), (3, 1)], 7, 3)] {
            let bytes = index(&entries).encode();
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
            if let Ok(index) = Index::decode(&bytes) {
                prop_assert_eq!(&index.encode()[..], &bytes[..]);
            }
        }
    }
}
