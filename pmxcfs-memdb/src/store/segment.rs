//! One file of the crash journal: a header that says which database and which state it continues, then records.
//!
//! All integers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `pmxcfsRJ` |
//! | 8 | 4 | format, 2 |
//! | 12 | 4 | length of this header, 80 |
//! | 16 | 8 | device of the database file |
//! | 24 | 8 | its inode number |
//! | 32 | 8 | time of its creation, nanoseconds since 1970; 0 where the filesystem does not know |
//! | 40 | 8 | sequence number of the first record |
//! | 48 | 8 | root version before the first record |
//! | 56 | 4 | root writer before the first record |
//! | 60 | 4 | root mtime before the first record |
//! | 64 | 8 | salt, drawn anew for each use of the file |
//! | 72 | 4 | 0 |
//! | 76 | 4 | CRC-32 (IEEE) of bytes 0 to 75 |
//! | 80 | .. | records, see the documentation of the module `redo` |
//!
//! A segment is freed by zeros over its header; the rest of the file stays, since pages that are given back have to be
//! found and cleared again with the next use. So a segment is not in use if its file is empty or its header is zeros. Both
//! ways between free and in use may be cut short by the death of the process, with no record in the file that counts:
//!
//! - a header that begins with zeros where `pmxcfsRJ` should be was being freed;
//! - a header that ends in zeros, as far as its checksum is concerned, was being written over zeros.
//!
//! Why nothing behind a fresh header is taken for a record of this use is told in the module `redo`. At a start the files
//! are cut to what is in use, so no bytes of an earlier process are left anyway.
//!
//! Format 1 has a header of 72 bytes without the salt: at offset 64 are four zero bytes and the checksum of what is
//! before it. Such a segment is read and not continued.

use std::hash::{BuildHasher, RandomState};

use bytes::{Buf, BufMut, Bytes};

use super::redo::{self, Redo, put_root, take_root};
use super::schema::FileIdentity;
use crate::RootState;

const MAGIC: [u8; 8] = *b"pmxcfsRJ";
const FORMAT: u32 = 2;
const CHECKSUM_SIZE: usize = 4;

/// Length of the header in bytes.
pub(super) const HEADER_SIZE: usize = 80;

/// The same in format 1.
const OLD_HEADER_SIZE: usize = 72;

/// What a free segment has in place of a header.
pub(super) const FREE_HEADER: [u8; HEADER_SIZE] = [0; HEADER_SIZE];

/// What a segment continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) database: FileIdentity,
    pub(super) first_sequence: u64,
    pub(super) base: RootState,
    /// What the marks of its records are made with. None in format 1.
    pub(super) salt: Option<u64>,
}

/// Why a file is not a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// It does not begin like one, or its header is damaged.
    #[error("its header is damaged")]
    Damaged,
    /// It has another format.
    #[error("it has format {0}, this program knows format {FORMAT}")]
    Format(u32),
}

/// A salt that was never used before.
pub(super) fn draw_salt() -> u64 {
    // Keys of the standard hasher are random.
    RandomState::new().hash_one(())
}

impl SegmentHeader {
    /// Bytes of a header of the present format; one of format 1 is not written any more.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_u32_le(u32::try_from(HEADER_SIZE).expect("a small number"));
        bytes.put_u64_le(self.database.device);
        bytes.put_u64_le(self.database.inode);
        bytes.put_u64_le(self.database.created_ns);
        bytes.put_u64_le(self.first_sequence);
        put_root(&mut bytes, self.base);
        bytes.put_u64_le(self.salt.unwrap_or(0));
        bytes.put_u32_le(0);
        bytes.put_u32_le(crc32fast::hash(&bytes));
        bytes
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, SegmentError> {
        let mut start = bytes.clone();
        if start.len() < OLD_HEADER_SIZE || start.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(SegmentError::Damaged);
        }
        let size = match start.get_u32_le() {
            1 => OLD_HEADER_SIZE,
            FORMAT if bytes.len() >= HEADER_SIZE => HEADER_SIZE,
            FORMAT => return Err(SegmentError::Damaged),
            format => return Err(SegmentError::Format(format)),
        };
        let (fields, stored) = bytes[..size].split_at(size - CHECKSUM_SIZE);
        if stored != checksum(fields) {
            return Err(SegmentError::Damaged);
        }
        let _length = start.get_u32_le();
        let decoded = Self {
            database: FileIdentity {
                device: start.get_u64_le(),
                inode: start.get_u64_le(),
                created_ns: start.get_u64_le(),
            },
            first_sequence: start.get_u64_le(),
            base: take_root(&mut start).expect("the header is long enough"),
            salt: (size == HEADER_SIZE).then(|| start.get_u64_le()),
        };
        bytes.advance(size);
        Ok(decoded)
    }
}

fn checksum(fields: &[u8]) -> [u8; CHECKSUM_SIZE] {
    crc32fast::hash(fields).to_le_bytes()
}

/// Whether a file holds no segment: it is empty, or the process died while it started or freed one.
fn is_free(bytes: &[u8]) -> bool {
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    let Some(header) = bytes.get(..HEADER_SIZE) else {
        let is_old = bytes.len() >= OLD_HEADER_SIZE && bytes[MAGIC.len()..].starts_with(&[1]);
        return MAGIC.starts_with(magic) && !is_old;
    };
    let wiped = magic.iter().take_while(|byte| **byte == 0).count();
    if wiped > 0 {
        return magic[wiped..] == MAGIC[wiped..];
    }
    let written = header
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let is_begun = written < HEADER_SIZE && magic[..written.min(8)] == MAGIC[..written.min(8)];
    let (fields, stored) = header.split_at(HEADER_SIZE - CHECKSUM_SIZE);
    let checksum = checksum(fields);
    let kept = written.saturating_sub(fields.len());
    is_begun && stored != checksum && stored[..kept] == checksum[..kept]
}

/// A segment as found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) header: SegmentHeader,
    /// Its records, as far as they are whole and consecutive.
    pub(super) records: Vec<Redo>,
    /// Length of the header and those records in bytes.
    pub(super) valid_size: usize,
    /// Bytes behind them of a record that was being written when the daemon died, as far as can be told.
    pub(super) torn_size: usize,
}

/// Decodes a segment. `None` if it is not in use.
pub(super) fn scan(mut bytes: Bytes) -> Result<Option<Scanned>, SegmentError> {
    if is_free(&bytes) {
        return Ok(None);
    }
    let total = bytes.len();
    let header = SegmentHeader::decode(&mut bytes)?;
    let mut records: Vec<Redo> = Vec::new();
    let mut expected = header.first_sequence;
    let mut rest = bytes.clone();
    while let Ok(record) = redo::decode(&mut bytes, header.salt)
        && record.sequence == expected
    {
        expected = expected.wrapping_add(1);
        records.push(record);
        rest = bytes.clone();
    }
    Ok(Some(Scanned {
        header,
        records,
        valid_size: total - rest.len(),
        torn_size: torn_size(&rest, expected, header.salt),
    }))
}

/// Bytes of a record with this sequence number that is not whole. Without a salt there is nothing else behind records.
fn torn_size(mut rest: &[u8], expected: u64, salt: Option<u64>) -> usize {
    let total = rest.len();
    if salt.is_none() {
        return total;
    }
    rest.advance(total.min(4));
    match (rest.try_get_u32_le(), rest.try_get_u64_le()) {
        (Ok(length), Ok(sequence)) if sequence == expected => total.min(length as usize),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Change;

    fn header(first_sequence: u64, salt: u64) -> SegmentHeader {
        SegmentHeader {
            database: FileIdentity {
                device: 1,
                inode: 2,
                created_ns: 3,
            },
            first_sequence,
            base: RootState {
                version: first_sequence,
                writer: 1,
                mtime: 7,
            },
            salt: Some(salt),
        }
    }

    /// A record with so many bytes of content.
    fn record(sequence: u64, salt: u64, content: &[u8]) -> Vec<u8> {
        let change = Change::Removed {
            inode: sequence,
            parent: 0,
            name: Bytes::new(),
        };
        let changes = vec![change; 1 + content.len()];
        let mut bytes = Vec::new();
        redo::encode_changes(&mut bytes, sequence, root(content), &changes, &|_| None);
        redo::seal(&mut bytes, salt);
        bytes
    }

    /// Tells contents of the same size apart.
    fn root(content: &[u8]) -> RootState {
        RootState {
            version: content.iter().map(|byte| u64::from(*byte)).sum(),
            ..RootState::default()
        }
    }

    /// The start of a file with other bytes behind.
    fn over(start: &[u8], former: &[u8]) -> Bytes {
        let behind = former.get(start.len()..).unwrap_or_default();
        [start, behind].concat().into()
    }

    #[test]
    fn a_use_that_was_being_started_or_ended_is_none() {
        let mut has_zero_at_end = 0;
        for salt in 0..2000 {
            let in_use = header(9, salt).encode();
            has_zero_at_end += usize::from(in_use.ends_with(&[0]));
            let file = [in_use.clone(), record(9, salt, b"content")].concat();
            assert!(scan(file.clone().into()).unwrap().is_some());
            for written in 0..=HEADER_SIZE {
                let freed = scan(over(&FREE_HEADER[..written], &file));
                assert_eq!(freed.unwrap().is_none(), written > 0, "freed {written}");
                let free = over(&FREE_HEADER, &file);
                let begun = over(&in_use[..written], &free);
                let is_complete = begun.starts_with(&in_use);
                let counts = scan(begun).unwrap().map(|scanned| scanned.records.len());
                // Complete behind a free header, the former record belongs to it, since this test uses one salt.
                assert_eq!(counts, is_complete.then_some(1), "begun {written}");
                let first = scan(Bytes::copy_from_slice(&in_use[..written])).unwrap();
                assert_eq!(first.is_some(), written == HEADER_SIZE, "first {written}");
            }
        }
        assert!(has_zero_at_end > 0, "headers that end like unfinished ones");
    }

    #[test]
    fn a_damaged_header_is_not_a_free_one() {
        let file = [header(9, 5).encode(), record(9, 5, b"content")].concat();
        for position in 0..HEADER_SIZE {
            for damage in 1..=255_u8 {
                let mut damaged = file.clone();
                damaged[position] ^= damage;
                if [0, HEADER_SIZE - 1].contains(&position) && damaged[position] == 0 {
                    continue;
                }
                let result = scan(damaged.into());
                assert!(result.is_err(), "{position} ^ {damage}: {result:?}");
            }
        }
    }

    #[test]
    fn a_segment_of_format_1_is_read() {
        let new = header(9, 5).encode();
        let mut file = [&new[..8], &[1, 0, 0, 0, 72, 0, 0, 0], &new[16..64], &[0; 4]].concat();
        let checksum = checksum(&file);
        file.extend(checksum);
        for length in 0..file.len() {
            let cut = scan(Bytes::copy_from_slice(&file[..length]));
            assert_eq!(cut, Ok(None), "{length}");
        }
        file.extend([1, 2, 3]);
        let scanned = scan(file.into()).unwrap().unwrap();
        let expected = SegmentHeader {
            salt: None,
            ..header(9, 5)
        };
        assert_eq!(scanned.header, expected);
        assert_eq!(
            (scanned.valid_size, scanned.torn_size),
            (OLD_HEADER_SIZE, 3)
        );
    }

    proptest! {
        /// Uses of one file, each over the one before. All begin with the same number, which no life of a daemon does, so
        /// that old records look as right as they can. The last write is torn.
        #[test]
        fn only_records_of_the_last_use_count(
            uses in vec(vec(vec(any::<u8>(), 0..4), 1..6), 1..6),
            salts in vec(any::<u64>(), 6),
            tear in any::<prop::sample::Index>(),
        ) {
            let mut file = Vec::new();
            let (mut whole, mut last_size) = (Vec::new(), 0);
            for (contents, salt) in uses.iter().zip(&salts) {
                let mut written = header(9, *salt).encode();
                whole.clear();
                for (sequence, content) in (9..).zip(contents) {
                    let record = record(sequence, *salt, content);
                    last_size = record.len();
                    written.extend(record);
                    whole.push(root(content));
                }
                let torn = written.len() - last_size + tear.index(last_size + 1);
                let is_last = std::ptr::eq(contents, &uses[uses.len() - 1]);
                let kept = if is_last { torn } else { written.len() };
                let former = over(&written[..kept], &file);
                if is_last && former[..] != over(&written, &file)[..] {
                    whole.pop();
                }
                file = former.to_vec();
            }
            let scanned = scan(file.into()).unwrap().unwrap();
            let roots: Vec<RootState> = scanned.records.iter().map(|record| record.root).collect();
            prop_assert_eq!(roots, whole);
        }
    }
}
