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
//! | 80 | .. | records, see the module `record` |
//!
//! A segment is freed by zeros over its header; the rest of the file stays for the next use. So a segment is free if its
//! file is empty or its header is zeros. The death of the process can cut short both ways between free and in use, and
//! no record in the file counts then:
//!
//! - a header that begins with zeros where `pmxcfsRJ` should be was being freed;
//! - a header that ends in zeros, as far as its checksum is concerned, was being written over zeros.
//!
//! The module `record` says why bytes of an earlier use are not taken for records of this one. A start cuts the files to
//! what is in use, so no bytes of an earlier process are left anyway.

use std::hash::{BuildHasher, RandomState};

use bytes::{Buf, BufMut, Bytes};

use super::record::{self, JournalRecord, put_root, take_root};
use crate::RootState;
use crate::store::identity::FileIdentity;

const MAGIC: [u8; 8] = *b"pmxcfsRJ";
const FORMAT: u32 = 2;
const CHECKSUM_SIZE: usize = 4;

/// Length of the header in bytes.
pub(crate) const HEADER_SIZE: usize = 80;

/// What a free segment has in place of a header.
pub(crate) const FREE_HEADER: [u8; HEADER_SIZE] = [0; HEADER_SIZE];

/// What a file of the journal continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalHeader {
    /// The database file that it belongs to.
    pub database: FileIdentity,
    /// Number that the first record has or would have.
    pub first_sequence: u64,
    /// State of the database before the first record.
    pub base: RootState,
    /// What the marks of its records are made with.
    pub(crate) salt: u64,
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
pub(crate) fn draw_salt() -> u64 {
    // Keys of the standard hasher are random.
    RandomState::new().hash_one(())
}

impl JournalHeader {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_u32_le(u32::try_from(HEADER_SIZE).expect("a small number"));
        bytes.put_u64_le(self.database.device);
        bytes.put_u64_le(self.database.inode);
        bytes.put_u64_le(self.database.created_ns);
        bytes.put_u64_le(self.first_sequence);
        put_root(&mut bytes, self.base);
        bytes.put_u64_le(self.salt);
        bytes.put_u32_le(0);
        bytes.put_u32_le(crc32fast::hash(&bytes));
        bytes
    }

    fn decode(mut bytes: Bytes) -> Result<Self, SegmentError> {
        let is_whole = bytes.len() == HEADER_SIZE;
        let checksum = bytes.split_off(bytes.len().min(HEADER_SIZE - CHECKSUM_SIZE));
        let is_good = is_whole && checksum[..] == checksum_of(&bytes);
        if bytes.len() < MAGIC.len() || bytes.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(SegmentError::Damaged);
        }
        match bytes.try_get_u32_le() {
            Ok(FORMAT) if is_good => {}
            Ok(FORMAT) | Err(_) => return Err(SegmentError::Damaged),
            Ok(format) => return Err(SegmentError::Format(format)),
        }
        let _length = bytes.get_u32_le();
        Ok(Self {
            database: FileIdentity {
                device: bytes.get_u64_le(),
                inode: bytes.get_u64_le(),
                created_ns: bytes.get_u64_le(),
            },
            first_sequence: bytes.get_u64_le(),
            base: take_root(&mut bytes).expect("the header is long enough"),
            salt: bytes.get_u64_le(),
        })
    }
}

fn checksum_of(fields: &[u8]) -> [u8; CHECKSUM_SIZE] {
    crc32fast::hash(fields).to_le_bytes()
}

/// Whether a file holds no segment: it is empty, or the process died while it started or freed one.
fn is_free(bytes: &[u8]) -> bool {
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    let Some(header) = bytes.get(..HEADER_SIZE) else {
        return MAGIC.starts_with(magic);
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
    let checksum = checksum_of(fields);
    let kept = written.saturating_sub(fields.len());
    is_begun && stored != checksum && stored[..kept] == checksum[..kept]
}

/// A file of the journal that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFile {
    /// What it continues.
    pub header: JournalHeader,
    /// Its records, as far as they are whole and consecutive.
    pub records: Vec<JournalRecord>,
    /// Length of the header and those records in bytes.
    pub(crate) valid_size: usize,
    /// Bytes behind them of a record that was being written when the daemon died, or is being written now, as far as can be
    /// told.
    pub torn_bytes: usize,
}

/// Decodes a segment. `None` if it is not in use.
pub(crate) fn scan(mut bytes: Bytes) -> Result<Option<JournalFile>, SegmentError> {
    if is_free(&bytes) {
        return Ok(None);
    }
    let total = bytes.len();
    let header = JournalHeader::decode(bytes.split_to(total.min(HEADER_SIZE)))?;
    let mut records: Vec<JournalRecord> = Vec::new();
    let mut expected = header.first_sequence;
    let mut rest = bytes.clone();
    while let Some(record) = record::decode(&mut bytes, header.salt)
        && record.sequence == expected
    {
        expected = expected.wrapping_add(1);
        records.push(record);
        rest = bytes.clone();
    }
    Ok(Some(JournalFile {
        header,
        records,
        valid_size: total - rest.len(),
        torn_bytes: torn_bytes(&rest, expected),
    }))
}

/// Bytes of a record with this sequence number that is not whole.
fn torn_bytes(mut rest: &[u8], expected: u64) -> usize {
    let total = rest.len();
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

    fn header(first_sequence: u64, salt: u64) -> JournalHeader {
        JournalHeader {
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
            salt,
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
        record::encode(&mut bytes, sequence, root(content), &changes, &|_| None);
        record::seal(&mut bytes, salt);
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
