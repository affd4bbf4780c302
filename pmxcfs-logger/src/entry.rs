//! One log entry, packed as peers send and store it.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | ring position of the next older entry, 0 = none; 0 in a LOG message |
//! | 4 | 4 | ring position behind this entry; 0 in a LOG message |
//! | 8 | 4 | uid: counter of the process that made the entry, from 1 |
//! | 12 | 4 | time in seconds |
//! | 16 | 8 | digest of the node name |
//! | 24 | 8 | digest of the user (ident) |
//! | 32 | 4 | pid of the client |
//! | 36 | 1 | syslog priority, 0..=7 |
//! | 37 | 1 | length of the node name with NUL |
//! | 38 | 1 | length of the ident with NUL |
//! | 39 | 1 | length of the tag with NUL |
//! | 40 | 4 | length of the message with NUL |
//! | 44 | | node name, ident, tag, message, each NUL-terminated |
//! | | 4 | padding, counted in the size; zeros are sent, anything is accepted |
//!
//! All numbers are little-endian. Texts are bytes: those of peers need not be UTF-8.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Ordering;

use crate::digest::{MAX_FIELD_LENGTH, text_digest};
use crate::escape::escape_units;

/// Bytes in front of the texts.
pub(crate) const HEADER_SIZE: usize = 44;

/// Bytes behind the texts.
pub(crate) const PADDING_SIZE: usize = 4;

/// Size of an entry without its texts.
pub(crate) const OVERHEAD: usize = HEADER_SIZE + PADDING_SIZE;

/// Largest entry in bytes, padding included. Larger ones are not stored.
pub const MAX_ENTRY_SIZE: usize = 4096;

/// Highest syslog priority that is logged.
const MAX_PRIORITY: u8 = 7;

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Shorter than an entry without any text.
    #[error("{0} bytes are too short for a log entry")]
    Truncated(usize),
    /// The lengths do not add up to the size of the message.
    #[error("log entry of {size} bytes in {available} bytes")]
    SizeMismatch {
        /// Size that the length fields make.
        size: u64,
        /// Bytes there are.
        available: usize,
    },
    /// One of the texts does not end with a NUL, or has no byte at all.
    #[error("unterminated string in log entry")]
    Unterminated,
}

/// What a new entry is made of.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Counter of this process.
    pub uid: u32,
    /// Seconds since 1970.
    pub time: u32,
    /// Process that asked for the entry.
    pub pid: u32,
    /// Syslog priority.
    pub priority: u8,
    /// Name of this node.
    pub node: &'a [u8],
    /// User.
    pub ident: &'a [u8],
    /// What the message is about, mostly a program's name.
    pub tag: &'a [u8],
    /// The message as the client sent it.
    pub message: &'a [u8],
}

impl Draft<'_> {
    /// Packs the entry, or gives `None` for a priority above 7. Texts end at their first NUL.
    ///
    /// Names longer than 254 bytes are cut. The message is escaped into what is left of 4096 bytes. If its last unit
    /// does not fit, the length field is what C peers make of it and NULs take that unit's place, so that no peer sees
    /// an unterminated text or half an escape.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "all terms are bounded by the sizes of this module"
    )]
    pub fn pack(&self) -> Option<Entry> {
        if self.priority > MAX_PRIORITY {
            return None;
        }
        let names = [self.node, self.ident, self.tag].map(until_nul);
        let lengths = names.map(|name| (name.len() + 1).min(MAX_FIELD_LENGTH));
        let used: usize = lengths.iter().sum();
        let mut escaped = escape_units(
            until_nul(self.message),
            true,
            MAX_ENTRY_SIZE - HEADER_SIZE - used,
        );
        let message_length = (escaped.text.len() + 1).min(MAX_ENTRY_SIZE - OVERHEAD - used);
        escaped.fit(message_length - 1);

        let size = OVERHEAD + used + message_length;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.uid.to_le_bytes());
        bytes.extend_from_slice(&self.time.to_le_bytes());
        bytes.extend_from_slice(&text_digest(names[0]).to_le_bytes());
        bytes.extend_from_slice(&text_digest(names[1]).to_le_bytes());
        bytes.extend_from_slice(&self.pid.to_le_bytes());
        bytes.push(self.priority);
        bytes.extend(
            lengths
                .iter()
                .filter_map(|length| u8::try_from(*length).ok()),
        );
        bytes.extend(u32::try_from(message_length).unwrap_or(0).to_le_bytes());
        for (name, length) in names.iter().zip(lengths) {
            bytes.extend(name.iter().take(length - 1));
            bytes.push(0);
        }
        bytes.extend_from_slice(&escaped.text);
        bytes.resize(size, 0);
        Some(Entry(bytes))
    }
}

/// A text up to its first NUL.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A packed entry: the payload of a LOG message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Decodes the payload of a LOG message.
    ///
    /// # Errors
    /// If the lengths do not add up (in 64 bits) to the size of the payload, or a text is not terminated.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let view = EntryView::parse_front(payload)?;
        if view.size() != payload.len() {
            return Err(EntryError::SizeMismatch {
                size: view.size() as u64,
                available: payload.len(),
            });
        }
        if !view.is_terminated() {
            return Err(EntryError::Unterminated);
        }
        Ok(Self(payload.to_vec()))
    }

    /// The packed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The fields.
    #[must_use]
    pub fn view(&self) -> EntryView<'_> {
        EntryView { bytes: &self.0 }
    }
}

/// The fields of a packed entry.
///
/// The layout was checked when the view was made: the bytes are as long as the lengths say.
#[derive(Debug, Clone, Copy)]
pub struct EntryView<'a> {
    bytes: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// The entry that `bytes` begin with; more bytes may follow. Its texts may lack their NUL: C daemons have made such
    /// entries.
    ///
    /// # Errors
    /// If there are fewer bytes than the lengths say.
    pub fn parse_front(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() < OVERHEAD {
            return Err(EntryError::Truncated(bytes.len()));
        }
        let header = Self { bytes };
        let size = header
            .lengths()
            .into_iter()
            .fold(OVERHEAD as u64, u64::saturating_add);
        usize::try_from(size)
            .ok()
            .and_then(|size| bytes.get(..size))
            .map(|bytes| Self { bytes })
            .ok_or(EntryError::SizeMismatch {
                size,
                available: bytes.len(),
            })
    }

    /// Size in bytes, padding included.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Ring position of the next older entry.
    #[must_use]
    pub fn prev(&self) -> u32 {
        self.u32_at(0)
    }

    /// Ring position behind the entry.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.u32_at(4)
    }

    /// Number of the entry in the process that made it.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.u32_at(8)
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn time(&self) -> u32 {
        self.u32_at(12)
    }

    /// Digest of the node name.
    #[must_use]
    pub fn node_digest(&self) -> u64 {
        self.u64_at(16)
    }

    /// Digest of the user.
    #[must_use]
    pub fn ident_digest(&self) -> u64 {
        self.u64_at(24)
    }

    /// Process that asked for the entry.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.u32_at(32)
    }

    /// Syslog priority.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.u8_at(36)
    }

    /// Node name.
    #[must_use]
    pub fn node(&self) -> &'a [u8] {
        self.text(0)
    }

    /// User.
    #[must_use]
    pub fn ident(&self) -> &'a [u8] {
        self.text(1)
    }

    /// What the message is about.
    #[must_use]
    pub fn tag(&self) -> &'a [u8] {
        self.text(2)
    }

    /// The escaped message.
    #[must_use]
    pub fn message(&self) -> &'a [u8] {
        self.text(3)
    }

    /// Whether each text has at least one byte and ends with a NUL.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        (0..4).all(|index| self.field(index).last() == Some(&0))
    }

    /// Whether each text has at least one byte.
    pub(crate) fn has_texts(&self) -> bool {
        self.lengths().iter().all(|length| *length > 0)
    }

    /// Everything that identifies the entry: all but ring positions and padding.
    pub(crate) fn identity(&self) -> &'a [u8] {
        let end = self.bytes.len().saturating_sub(PADDING_SIZE);
        self.bytes.get(8..end).unwrap_or_default()
    }

    /// The same entry with another number, as a LOG message carries it.
    pub(crate) fn with_uid(&self, uid: u32) -> Entry {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(&uid.to_le_bytes());
        bytes.extend(self.identity().iter().skip(4));
        bytes.resize(self.size(), 0);
        Entry(bytes)
    }

    /// Offsets of the last byte of each text.
    pub(crate) fn last_bytes(&self) -> impl Iterator<Item = usize> {
        (0..4).filter_map(|index| self.span(index).last())
    }

    fn lengths(&self) -> [u64; 4] {
        [
            u64::from(self.u8_at(37)),
            u64::from(self.u8_at(38)),
            u64::from(self.u8_at(39)),
            u64::from(self.u32_at(40)),
        ]
    }

    fn span(&self, index: usize) -> std::ops::Range<usize> {
        let lengths = self
            .lengths()
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let start = lengths
            .iter()
            .take(index)
            .fold(HEADER_SIZE, |start, length| start.saturating_add(*length));
        let length = lengths.get(index).copied().unwrap_or(0);
        start..start.saturating_add(length)
    }

    /// One of the texts with what follows its first NUL.
    fn field(&self, index: usize) -> &'a [u8] {
        self.bytes.get(self.span(index)).unwrap_or_default()
    }

    fn text(&self, index: usize) -> &'a [u8] {
        until_nul(self.field(index))
    }

    fn u8_at(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array_at(offset))
    }

    fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array_at(offset))
    }

    fn array_at<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .unwrap_or([0; N])
    }
}

/// Order of entries in a sorted or merged ring: by time, then node digest, then uid.
///
/// Each comparison is the sign of the difference cut to 32 bits, as peers compute it. For digests that is not an order
/// in general; entries of one second may then stand in any sequence, and digests with equal low halves are the same.
pub(crate) fn entry_order(a: &EntryView<'_>, b: &EntryView<'_>) -> Ordering {
    let sign = |a: u32, b: u32| a.wrapping_sub(b).cast_signed().cmp(&0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "peers compare the low halves"
    )]
    let low = |digest: u64| digest as u32;
    let by_time = sign(a.time(), b.time());
    if by_time.is_ne() {
        return by_time;
    }
    if a.node_digest() != b.node_digest() {
        return sign(low(a.node_digest()), low(b.node_digest()));
    }
    sign(a.uid(), b.uid())
}
