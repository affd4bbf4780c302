//! Redo records: the content of the crash journal.
//!
//! A record stands for one operation and carries its effects with absolute values: applying a run of records again to
//! the state they led to changes nothing, so recovery may start at any record at or before the database's state.
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
//! Segments of format 1 have no salt, and their records no mark.
//!
//! A segment's file is used again without being cut, so behind its last record there are bytes of earlier uses. The mark
//! keeps them out: a whole record of an earlier use has the mark of another salt, and a record that was torn when the
//! process died has its last bytes, the mark, not written. The salt is drawn for each use and told to nobody, so that
//! neither an earlier use nor the content of a file can have it in that place.
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

const RECORD_HEADER: usize = 32;
const MARK: usize = 8;
const TAG_PUT: u8 = 1;
const TAG_CONTENT: u8 = 2;
const TAG_REMOVED: u8 = 3;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redo {
    /// Position in the order of all records.
    pub(super) sequence: u64,
    /// State of the database after the operation.
    pub(super) root: RootState,
    /// Effects in the order in which they happened.
    pub(super) steps: Vec<Step>,
}

/// One effect of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The entry exists with this metadata.
    Put(Metadata),
    /// As `Put`, and the content changed.
    Content {
        /// The entry.
        metadata: Metadata,
        /// How many bytes of the former content stay at most.
        keep: u32,
        /// Where `data` begins.
        offset: u32,
        /// Size afterwards.
        size: u32,
        /// The bytes written.
        data: Bytes,
    },
    /// The entry is gone.
    Removed {
        /// The entry.
        inode: u64,
    },
}

/// An entry without its content. Fields as in [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) inode: u64,
    pub(super) parent: u64,
    pub(super) version: u64,
    pub(super) writer: u32,
    pub(super) mtime: u32,
    pub(super) kind: EntryKind,
    pub(super) name: Bytes,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RedoError {
    /// There are fewer bytes than the record needs.
    #[error("the record is incomplete")]
    Incomplete,
    /// The checksum does not match.
    #[error("the record's checksum is wrong")]
    Checksum,
    /// It was written in an earlier use of the file.
    #[error("the record belongs to an earlier use of the file")]
    Stale,
    /// The checksum matches and the content makes no sense.
    #[error("the record is malformed")]
    Malformed,
}

/// Appends one operation to a buffer, given the entries as they are after it. [`seal`] completes it.
///
/// An entry that the operation put and took away again is left out.
pub(super) fn encode_changes<'e>(
    buffer: &mut Vec<u8>,
    sequence: u64,
    root: RootState,
    changes: &[Change],
    entry: &dyn Fn(u64) -> Option<&'e Entry>,
) {
    let mut record = RecordEncoder::begin(buffer, sequence, root);
    for change in changes {
        match change {
            Change::Put { inode } => {
                if let Some(entry) = entry(*inode) {
                    record.put(entry);
                }
            }
            Change::Content {
                inode,
                keep,
                offset,
                data,
                size,
            } => {
                if let Some(entry) = entry(*inode) {
                    record.content(entry, *keep, *offset, *size, data);
                }
            }
            Change::Removed { inode, .. } => record.removed(*inode),
        }
    }
    record.finish();
}

/// Writes one record to the end of a buffer.
struct RecordEncoder<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> RecordEncoder<'a> {
    fn begin(buffer: &'a mut Vec<u8>, sequence: u64, root: RootState) -> Self {
        let start = buffer.len();
        buffer.put_u64_le(0);
        buffer.put_u64_le(sequence);
        put_root(buffer, root);
        Self { buffer, start }
    }

    fn put(&mut self, entry: &Entry) {
        self.buffer.put_u8(TAG_PUT);
        self.metadata(entry);
    }

    fn content(&mut self, entry: &Entry, keep: u32, offset: u32, size: u32, data: &[u8]) {
        self.buffer.put_u8(TAG_CONTENT);
        self.metadata(entry);
        self.buffer.put_u32_le(keep);
        self.buffer.put_u32_le(offset);
        self.buffer.put_u32_le(size);
        self.bytes(data);
    }

    fn removed(&mut self, inode: u64) {
        self.buffer.put_u8(TAG_REMOVED);
        self.buffer.put_u64_le(inode);
    }

    fn metadata(&mut self, entry: &Entry) {
        self.buffer.put_u64_le(entry.inode);
        self.buffer.put_u64_le(entry.parent);
        self.buffer.put_u64_le(entry.version);
        self.buffer.put_u32_le(entry.writer);
        self.buffer.put_u32_le(entry.mtime);
        self.buffer.put_u8(entry.kind as u8);
        self.bytes(&entry.name);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("names and writes are far below 4 GiB");
        self.buffer.put_u32_le(length);
        self.buffer.put_slice(bytes);
    }

    fn finish(self) {
        self.buffer.put_u64_le(0);
        let record = &mut self.buffer[self.start..];
        let length = u32::try_from(record.len()).expect("an operation is far below 4 GiB");
        record[4..8].copy_from_slice(&length.to_le_bytes());
    }
}

/// Gives records that [`encode_changes`] made their marks and checksums, for a segment with this salt.
pub(super) fn seal(mut records: &mut [u8], salt: u64) {
    while !records.is_empty() {
        let mut header = &records[4..];
        let length = header.get_u32_le() as usize;
        let sequence = header.get_u64_le();
        let (record, rest) = records.split_at_mut(length);
        record[length - MARK..].copy_from_slice(&mark(salt, sequence));
        let checksum = crc32fast::hash(&record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        records = rest;
    }
}

fn mark(salt: u64, sequence: u64) -> [u8; MARK] {
    (salt ^ sequence).to_le_bytes()
}

/// Appends version, writer and mtime: 16 bytes.
pub(super) fn put_root(buffer: &mut Vec<u8>, root: RootState) {
    buffer.put_u64_le(root.version);
    buffer.put_u32_le(root.writer);
    buffer.put_u32_le(root.mtime);
}

/// Takes what [`put_root`] wrote.
pub(super) fn take_root(bytes: &mut Bytes) -> Option<RootState> {
    Some(RootState {
        version: bytes.try_get_u64_le().ok()?,
        writer: bytes.try_get_u32_le().ok()?,
        mtime: bytes.try_get_u32_le().ok()?,
    })
}

/// Takes one record off the front of `bytes`, in a segment with this salt or without one. Names and data share the buffer.
///
/// # Errors
/// [`RedoError`]; `bytes` is unchanged then.
pub(super) fn decode(bytes: &mut Bytes, salt: Option<u64>) -> Result<Redo, RedoError> {
    let mut header = bytes.clone();
    let checksum = header.try_get_u32_le().or(Err(RedoError::Incomplete))?;
    let length = header.try_get_u32_le().or(Err(RedoError::Incomplete))?;
    let length = usize::try_from(length).or(Err(RedoError::Incomplete))?;
    if length > bytes.len() {
        return Err(RedoError::Incomplete);
    }
    let end = length - salt.map_or(0, |_| MARK.min(length));
    if end < RECORD_HEADER {
        return Err(RedoError::Malformed);
    }
    if crc32fast::hash(&bytes[4..length]) != checksum {
        return Err(RedoError::Checksum);
    }
    let redo = decode_body(bytes.slice(8..end)).ok_or(RedoError::Malformed)?;
    if salt.is_some_and(|salt| bytes[end..length] != mark(salt, redo.sequence)) {
        return Err(RedoError::Stale);
    }
    bytes.advance(length);
    Ok(redo)
}

fn decode_body(mut body: Bytes) -> Option<Redo> {
    let sequence = body.try_get_u64_le().ok()?;
    let root = take_root(&mut body)?;
    let mut steps = Vec::new();
    while body.has_remaining() {
        steps.push(decode_step(&mut body)?);
    }
    Some(Redo {
        sequence,
        root,
        steps,
    })
}

fn decode_step(body: &mut Bytes) -> Option<Step> {
    Some(match body.try_get_u8().ok()? {
        TAG_PUT => Step::Put(decode_metadata(body)?),
        TAG_CONTENT => Step::Content {
            metadata: decode_metadata(body)?,
            keep: body.try_get_u32_le().ok()?,
            offset: body.try_get_u32_le().ok()?,
            size: body.try_get_u32_le().ok()?,
            data: take_bytes(body)?,
        },
        TAG_REMOVED => Step::Removed {
            inode: body.try_get_u64_le().ok()?,
        },
        _ => return None,
    })
}

fn decode_metadata(body: &mut Bytes) -> Option<Metadata> {
    Some(Metadata {
        inode: body.try_get_u64_le().ok()?,
        parent: body.try_get_u64_le().ok()?,
        version: body.try_get_u64_le().ok()?,
        writer: body.try_get_u32_le().ok()?,
        mtime: body.try_get_u32_le().ok()?,
        kind: match body.try_get_u8().ok()? {
            4 => EntryKind::Directory,
            8 => EntryKind::File,
            _ => return None,
        },
        name: take_bytes(body)?,
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

    fn metadata(entry: &Entry) -> Metadata {
        Metadata {
            inode: entry.inode,
            parent: entry.parent,
            version: entry.version,
            writer: entry.writer,
            mtime: entry.mtime,
            kind: entry.kind,
            name: entry.name.clone(),
        }
    }

    /// What a change becomes, said apart from the encoder.
    fn expected(change: &Change, entries: &BTreeMap<u64, Entry>) -> Option<Step> {
        match change {
            Change::Put { inode } => entries.get(inode).map(|entry| Step::Put(metadata(entry))),
            Change::Content {
                inode,
                keep,
                offset,
                data,
                size,
            } => entries.get(inode).map(|entry| Step::Content {
                metadata: metadata(entry),
                keep: *keep,
                offset: *offset,
                size: *size,
                data: data.clone(),
            }),
            Change::Removed { inode, .. } => Some(Step::Removed { inode: *inode }),
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
            encode_changes(&mut buffer, sequence, root, &changes, &|inode| entries.get(&inode));
            let length = buffer.len();
            seal(&mut buffer[before.len()..], salt);
            buffer.extend_from_slice(&after);

            let mut encoded = Bytes::from(buffer);
            encoded.advance(before.len());
            let whole = encoded.slice(..length - before.len());
            prop_assert_eq!(decode(&mut encoded, Some(!salt)), Err(RedoError::Stale));
            let redo = decode(&mut encoded, Some(salt)).expect("it was encoded");
            prop_assert_eq!(encoded, after);
            prop_assert_eq!((redo.sequence, redo.root), (sequence, root));
            let steps: Vec<Step> = changes.iter().filter_map(|change| expected(change, &entries)).collect();
            prop_assert_eq!(redo.steps, steps);

            for cut in 0..whole.len() {
                let mut part = whole.slice(..cut);
                prop_assert!(decode(&mut part, Some(salt)).is_err());
                prop_assert_eq!(part.len(), cut);
            }
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_decoded_or_refused(
            body in bytes(200), tags in vec(1..4_u8, 0..4), salt in any::<Option<u64>>(),
        ) {
            let mut record = vec![0; 8];
            record.extend_from_slice(&body);
            for (index, tag) in tags.iter().enumerate() {
                if let Some(byte) = record.get_mut(RECORD_HEADER + 40 * index) {
                    *byte = *tag;
                }
            }
            let length = u32::try_from(record.len()).expect("it is short");
            record[4..8].copy_from_slice(&length.to_le_bytes());
            let checksum = crc32fast::hash(&record[4..]);
            record[..4].copy_from_slice(&checksum.to_le_bytes());
            let mut bytes = Bytes::from(record);
            match decode(&mut bytes, salt) {
                Ok(redo) => prop_assert!(redo.steps.len() <= body.len()),
                Err(RedoError::Malformed) => {}
                Err(error) => {
                    prop_assert!(salt.is_some());
                    prop_assert_eq!(error, RedoError::Stale);
                }
            }
        }
    }
}
