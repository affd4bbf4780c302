//! One file of the crash journal: a header that says which database and which state it continues, then records.
//!
//! All integers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `pmxcfsRJ` |
//! | 8 | 4 | format, 1 |
//! | 12 | 4 | length of this header, 72 |
//! | 16 | 8 | device of the database file |
//! | 24 | 8 | its inode number |
//! | 32 | 8 | time of its creation, nanoseconds since 1970; 0 where the filesystem does not know |
//! | 40 | 8 | sequence number of the first record |
//! | 48 | 8 | root version before the first record |
//! | 56 | 4 | root writer before the first record |
//! | 60 | 4 | root mtime before the first record |
//! | 64 | 4 | 0 |
//! | 68 | 4 | CRC-32 (IEEE) of bytes 0 to 67 |
//! | 72 | .. | records, see the documentation of the module `redo` |
//!
//! An empty file is a segment that is not in use.

use bytes::{Buf, BufMut, Bytes};

use super::redo::{self, Redo, put_root, take_root};
use super::schema::FileIdentity;
use crate::RootState;

const MAGIC: [u8; 8] = *b"pmxcfsRJ";
const FORMAT: u32 = 1;

/// Length of the header in bytes.
pub(super) const HEADER_SIZE: usize = 72;

/// What a segment continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) database: FileIdentity,
    pub(super) first_sequence: u64,
    pub(super) base: RootState,
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

impl SegmentHeader {
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
        bytes.put_u32_le(0);
        bytes.put_u32_le(crc32fast::hash(&bytes));
        bytes
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, SegmentError> {
        if bytes.len() < HEADER_SIZE {
            return Err(SegmentError::Damaged);
        }
        let mut header = bytes.split_to(HEADER_SIZE);
        let checksum = crc32fast::hash(&header[..HEADER_SIZE - 4]);
        let mut fields = || -> Option<(u32, u32, Self)> {
            let magic = header.split_to(MAGIC.len());
            let format = header.try_get_u32_le().ok()?;
            let _length = header.try_get_u32_le().ok()?;
            let decoded = Self {
                database: FileIdentity {
                    device: header.try_get_u64_le().ok()?,
                    inode: header.try_get_u64_le().ok()?,
                    created_ns: header.try_get_u64_le().ok()?,
                },
                first_sequence: header.try_get_u64_le().ok()?,
                base: take_root(&mut header)?,
            };
            let _reserved = header.try_get_u32_le().ok()?;
            let stored = header.try_get_u32_le().ok()?;
            (magic == MAGIC[..]).then_some((format, stored, decoded))
        };
        match fields() {
            Some((FORMAT, stored, decoded)) if stored == checksum => Ok(decoded),
            Some((format, ..)) if format != FORMAT => Err(SegmentError::Format(format)),
            _ => Err(SegmentError::Damaged),
        }
    }
}

/// A segment as found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) header: SegmentHeader,
    /// Its records, as far as they are whole and consecutive.
    pub(super) records: Vec<Redo>,
    /// Length of the header and those records in bytes.
    pub(super) valid_size: usize,
    /// Bytes behind them: a record that was being written when the daemon died.
    pub(super) torn_size: usize,
}

/// Decodes a segment. `None` if it is not in use: empty, or cut within its header when it was being started, which
/// happens before any record.
pub(super) fn scan(mut bytes: Bytes) -> Result<Option<Scanned>, SegmentError> {
    let total = bytes.len();
    if total < HEADER_SIZE && MAGIC.starts_with(&bytes[..total.min(MAGIC.len())]) {
        return Ok(None);
    }
    let header = SegmentHeader::decode(&mut bytes)?;
    let mut records: Vec<Redo> = Vec::new();
    let mut expected = header.first_sequence;
    let mut torn_size = bytes.len();
    while let Ok(record) = redo::decode(&mut bytes) {
        if record.sequence != expected {
            break;
        }
        expected = expected.wrapping_add(1);
        records.push(record);
        torn_size = bytes.len();
    }
    Ok(Some(Scanned {
        header,
        records,
        valid_size: total - torn_size,
        torn_size,
    }))
}
