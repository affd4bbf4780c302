//! Records: the content of the crash journal.
//!
//! A record stands for one operation and carries its effects with absolute values: applying a run of records again to
//! the state they led to changes nothing, so a replay may start at any record at or before the database's state.
//! Records are small: a write carries the bytes written, not the file.
//!
//! All integers are little-endian.
//!
//! # Record
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32 (IEEE) of everything behind this field |
//! | 4 | 4 | length of the record in bytes, this header of 32 bytes and the mark included |
//! | 8 | 8 | sequence number; grows by one per record, also across segments and restarts |
//! | 16 | 8 | root version after the operation |
//! | 24 | 4 | root writer |
//! | 28 | 4 | root mtime |
//! | 32 | .. | steps |
//! | length - 8 | 8 | mark: salt of the segment XOR sequence number |
//!
//! A segment's file is used again without being cut, so bytes of earlier uses follow its last record. The mark keeps
//! them out: a whole record of an earlier use has the mark of another salt, and a record that was torn when the process
//! died lacks its last bytes, the mark. Each use of a file draws a new salt and tells it to nobody, so neither an earlier
//! use nor the content of a file can contain it in that place.
//!
//! # Steps
//!
//! | tag | name | content behind the tag byte |
//! |---|---|---|
//! | 1 | put | metadata. The content stays; a new entry has none |
//! | 2 | content | metadata; keep 4, offset 4, size 4, length n 4, n bytes: arguments of [`splice`](crate::splice) |
//! | 3 | removed | inode 8 |
//!
//! # Metadata
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | inode |
//! | 8 | 8 | parent |
//! | 16 | 8 | version |
//! | 24 | 4 | writer |
//! | 28 | 4 | mtime |
//! | 32 | 1 | kind, 4 or 8 |
//! | 33 | 4 | length n of the name |
//! | 37 | n | name |

use bytes::{Buf, BufMut, Bytes};

use crate::{Change, Entry, EntryKind, RootState};

const HEADER_SIZE: usize = 32;
const MARK_SIZE: usize = 8;
const TAG_PUT: u8 = 1;
const TAG_CONTENT: u8 = 2;
const TAG_REMOVED: u8 = 3;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// Position in the order of all records.
    pub sequence: u64,
    /// State of the database after the operation.
    pub root: RootState,
    /// Its effects, in order.
    pub steps: Vec<JournalStep>,
}

/// One effect of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalStep {
    /// The entry exists and is like this; its content stays what it was and is not known here.
    Put {
        /// The entry, with size 0 and without content.
        entry: Entry,
    },
    /// As `Put`, and the content changed.
    Content {
        /// The entry, with its new size and without content.
        entry: Entry,
        /// How many bytes of the former content stay at most.
        keep: u32,
        /// Where `data` begins.
        offset: u32,
        /// The bytes written.
        data: Bytes,
    },
    /// The entry is gone.
    Removed {
        /// The entry.
        inode: u64,
    },
}

/// Appends one operation to a buffer, given the entries as they are after it. [`seal`] completes it.
///
/// An entry that the operation put and took away again is left out.
pub(crate) fn encode<'e>(
    buffer: &mut Vec<u8>,
    sequence: u64,
    root: RootState,
    changes: &[Change],
    entry: &dyn Fn(u64) -> Option<&'e Entry>,
) {
    let start = buffer.len();
    buffer.put_u64_le(0);
    buffer.put_u64_le(sequence);
    put_root(buffer, root);
    for change in changes {
        encode_step(buffer, change, entry(change.inode()));
    }
    buffer.put_u64_le(0);
    let length = length(&buffer[start..]);
    buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

fn encode_step(buffer: &mut Vec<u8>, change: &Change, entry: Option<&Entry>) {
    match (change, entry) {
        (Change::Put { .. }, Some(entry)) => put_metadata(buffer, TAG_PUT, entry),
        (
            Change::Content {
                keep,
                offset,
                data,
                size,
                ..
            },
            Some(entry),
        ) => {
            put_metadata(buffer, TAG_CONTENT, entry);
            buffer.put_u32_le(*keep);
            buffer.put_u32_le(*offset);
            buffer.put_u32_le(*size);
            put_bytes(buffer, data);
        }
        (Change::Removed { inode, .. }, _) => {
            buffer.put_u8(TAG_REMOVED);
            buffer.put_u64_le(*inode);
        }
        (_, None) => {}
    }
}

fn put_metadata(buffer: &mut Vec<u8>, tag: u8, entry: &Entry) {
    buffer.put_u8(tag);
    buffer.put_u64_le(entry.inode);
    buffer.put_u64_le(entry.parent);
    buffer.put_u64_le(entry.version);
    buffer.put_u32_le(entry.writer);
    buffer.put_u32_le(entry.mtime);
    buffer.put_u8(entry.kind as u8);
    put_bytes(buffer, &entry.name);
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.put_u32_le(length(bytes));
    buffer.put_slice(bytes);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("names, writes and operations are far below 4 GiB")
}

/// Gives records that [`encode`] made their marks and checksums, for a segment with this salt.
pub(crate) fn seal(mut records: &mut [u8], salt: u64) {
    while !records.is_empty() {
        let mut header = &records[4..];
        let length = header.get_u32_le() as usize;
        let sequence = header.get_u64_le();
        let (record, rest) = records.split_at_mut(length);
        record[length - MARK_SIZE..].copy_from_slice(&mark(salt, sequence));
        let checksum = crc32fast::hash(&record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        records = rest;
    }
}

fn mark(salt: u64, sequence: u64) -> [u8; MARK_SIZE] {
    (salt ^ sequence).to_le_bytes()
}

/// Appends version, writer and mtime: 16 bytes.
pub(crate) fn put_root(buffer: &mut Vec<u8>, root: RootState) {
    buffer.put_u64_le(root.version);
    buffer.put_u32_le(root.writer);
    buffer.put_u32_le(root.mtime);
}

/// Takes what [`put_root`] wrote.
pub(crate) fn take_root(bytes: &mut Bytes) -> Option<RootState> {
    Some(RootState {
        version: bytes.try_get_u64_le().ok()?,
        writer: bytes.try_get_u32_le().ok()?,
        mtime: bytes.try_get_u32_le().ok()?,
    })
}

/// Takes one record off the front of `bytes`, in a segment with this salt. Names and data share the buffer. `None` if there
/// is no whole record of this use of the file; `bytes` is unchanged then.
pub(crate) fn decode(bytes: &mut Bytes, salt: u64) -> Option<JournalRecord> {
    let mut header = bytes.clone();
    let checksum = header.try_get_u32_le().ok()?;
    let length = usize::try_from(header.try_get_u32_le().ok()?).ok()?;
    if length < HEADER_SIZE + MARK_SIZE
        || length > bytes.len()
        || crc32fast::hash(&bytes[4..length]) != checksum
    {
        return None;
    }
    let end = length - MARK_SIZE;
    let record = decode_body(bytes.slice(8..end))?;
    if bytes[end..length] != mark(salt, record.sequence) {
        return None;
    }
    bytes.advance(length);
    Some(record)
}

fn decode_body(mut body: Bytes) -> Option<JournalRecord> {
    let sequence = body.try_get_u64_le().ok()?;
    let root = take_root(&mut body)?;
    let mut steps = Vec::new();
    while body.has_remaining() {
        steps.push(decode_step(&mut body)?);
    }
    Some(JournalRecord {
        sequence,
        root,
        steps,
    })
}

fn decode_step(body: &mut Bytes) -> Option<JournalStep> {
    Some(match body.try_get_u8().ok()? {
        TAG_PUT => JournalStep::Put {
            entry: take_metadata(body)?,
        },
        TAG_CONTENT => {
            let mut entry = take_metadata(body)?;
            let keep = body.try_get_u32_le().ok()?;
            let offset = body.try_get_u32_le().ok()?;
            entry.size = body.try_get_u32_le().ok()?;
            JournalStep::Content {
                entry,
                keep,
                offset,
                data: take_bytes(body)?,
            }
        }
        TAG_REMOVED => JournalStep::Removed {
            inode: body.try_get_u64_le().ok()?,
        },
        _ => return None,
    })
}

fn take_metadata(body: &mut Bytes) -> Option<Entry> {
    Some(Entry {
        inode: body.try_get_u64_le().ok()?,
        parent: body.try_get_u64_le().ok()?,
        version: body.try_get_u64_le().ok()?,
        writer: body.try_get_u32_le().ok()?,
        mtime: body.try_get_u32_le().ok()?,
        size: 0,
        kind: EntryKind::try_from(body.try_get_u8().ok()?).ok()?,
        name: take_bytes(body)?,
        data: Bytes::new(),
    })
}

fn take_bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes(limit: usize) -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..limit).prop_map(Bytes::from)
    }

    prop_compose! {
        fn entry()(
            inode in 1..20_u64, parent in any::<u64>(), version in any::<u64>(), writer in any::<u32>(),
            mtime in any::<u32>(), file in any::<bool>(), name in bytes(300), data in bytes(50),
        ) -> Entry {
            let kind = if file { EntryKind::File } else { EntryKind::Directory };
            let size = u32::try_from(data.len()).expect("it is short");
            Entry { inode, parent, version, writer, mtime, size, kind, name, data }
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        let content = (1..20_u64, any::<[u32; 3]>(), bytes(200));
        prop_oneof![
            (1..20_u64).prop_map(|inode| Change::Put { inode }),
            content.prop_map(|(inode, [keep, offset, size], data)| Change::Content {
                inode,
                keep,
                offset,
                data,
                size
            }),
            (1..20_u64, any::<u64>(), bytes(30)).prop_map(|(inode, parent, name)| {
                Change::Removed {
                    inode,
                    parent,
                    name,
                }
            }),
        ]
    }

    /// What a change becomes, said apart from the encoder.
    fn expected(change: &Change, entries: &BTreeMap<u64, Entry>) -> Option<JournalStep> {
        let known = |inode: &u64, size: u32| {
            entries.get(inode).map(|entry| Entry {
                size,
                data: Bytes::new(),
                ..entry.clone()
            })
        };
        match change {
            Change::Put { inode } => known(inode, 0).map(|entry| JournalStep::Put { entry }),
            Change::Content {
                inode,
                keep,
                offset,
                data,
                size,
            } => known(inode, *size).map(|entry| JournalStep::Content {
                entry,
                keep: *keep,
                offset: *offset,
                data: data.clone(),
            }),
            Change::Removed { inode, .. } => Some(JournalStep::Removed { inode: *inode }),
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            entries in vec(entry(), 0..10), changes in vec(change(), 0..10),
            sequence in any::<u64>(), salt in any::<u64>(), root in any::<(u64, u32, u32)>(),
            before in bytes(20), after in bytes(20),
        ) {
            let entries: BTreeMap<u64, Entry> = entries.into_iter().map(|entry| (entry.inode, entry)).collect();
            let root = RootState { version: root.0, writer: root.1, mtime: root.2 };
            let mut buffer = before.to_vec();
            encode(&mut buffer, sequence, root, &changes, &|inode| entries.get(&inode));
            let length = buffer.len();
            seal(&mut buffer[before.len()..], salt);
            buffer.extend_from_slice(&after);

            let mut encoded = Bytes::from(buffer);
            encoded.advance(before.len());
            let whole = encoded.slice(..length - before.len());
            prop_assert_eq!(decode(&mut encoded, !salt), None);
            let record = decode(&mut encoded, salt).expect("it was encoded");
            prop_assert_eq!(encoded, after);
            prop_assert_eq!((record.sequence, record.root), (sequence, root));
            let steps: Vec<JournalStep> = changes.iter().filter_map(|change| expected(change, &entries)).collect();
            prop_assert_eq!(record.steps, steps);

            for cut in 0..whole.len() {
                let mut part = whole.slice(..cut);
                prop_assert_eq!(decode(&mut part, salt), None);
                prop_assert_eq!(part.len(), cut);
            }
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_decoded_or_refused(
            body in bytes(200), tags in vec(1..4_u8, 0..4), salt: u64, is_marked: bool,
        ) {
            let mut record = vec![0; 8];
            record.extend_from_slice(&body);
            for (index, tag) in tags.iter().enumerate() {
                if let Some(byte) = record.get_mut(HEADER_SIZE + 40 * index) {
                    *byte = *tag;
                }
            }
            let length = u32::try_from(record.len()).expect("it is short");
            record[4..8].copy_from_slice(&length.to_le_bytes());
            if is_marked && record.len() >= HEADER_SIZE {
                seal(&mut record, salt);
            } else {
                let checksum = crc32fast::hash(&record[4..]);
                record[..4].copy_from_slice(&checksum.to_le_bytes());
            }
            let mut bytes = Bytes::from(record);
            let length = bytes.len();
            match decode(&mut bytes, salt) {
                Some(record) => prop_assert!(record.steps.len() <= body.len()),
                None => prop_assert_eq!(bytes.len(), length),
            }
        }
    }
}
