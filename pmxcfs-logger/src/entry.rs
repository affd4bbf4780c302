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

use bytes::Buf;
use pmxcfs_api_types::text::until_nul;

use crate::digest::{MAX_FIELD_LENGTH, text_digest};
use crate::escape::escape;

/// Bytes in front of the texts.
const HEADER_SIZE: usize = 44;

/// Bytes behind the texts.
const PADDING_SIZE: usize = 4;

/// Size of an entry without its texts.
const OVERHEAD: usize = HEADER_SIZE + PADDING_SIZE;

/// Largest entry in bytes, padding included.
pub const MAX_ENTRY_SIZE: usize = 4096;

/// Highest syslog priority that is logged.
const MAX_PRIORITY: u8 = 7;

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Shorter than an entry without any text.
    #[error("{0} bytes are too short for a log entry")]
    Truncated(usize),
    /// The lengths do not add up to the size of the message.
    #[error("log entry of {size} bytes in {available} bytes")]
    SizeMismatch {
        /// Size that the length fields make.
        size: usize,
        /// Bytes there are.
        available: usize,
    },
    /// More than [`MAX_ENTRY_SIZE`] bytes.
    #[error("log entry of {0} bytes, at most {MAX_ENTRY_SIZE} are stored")]
    TooLarge(usize),
    /// One of the texts does not end with a NUL, or has no byte at all.
    #[error("unterminated string in log entry")]
    Unterminated,
}

/// What a client wants to have logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submission<'a> {
    /// Syslog priority. Above 7 nothing is logged.
    pub priority: u8,
    /// Process id of the client.
    pub pid: u32,
    /// User.
    pub ident: &'a [u8],
    /// What the message is about, mostly a program's name.
    pub tag: &'a [u8],
    /// Text.
    pub message: &'a [u8],
}

impl Submission<'_> {
    /// Packs the entry that `node` makes of it, or gives `None` for a priority above 7. Texts end at their first NUL.
    ///
    /// Names longer than 254 bytes are cut. The message is escaped into what is left of 4096 bytes. If its last unit
    /// does not fit, the length field is what C peers make of it and NULs take that unit's place, so that no peer sees
    /// an unterminated text or half an escape.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "all terms are bounded by the sizes of this module"
    )]
    pub fn pack(&self, uid: u32, time: u32, node: &[u8]) -> Option<Entry> {
        if self.priority > MAX_PRIORITY {
            return None;
        }
        let names = [node, self.ident, self.tag].map(until_nul);
        let lengths = names.map(|name| (name.len() + 1).min(MAX_FIELD_LENGTH));
        let used: usize = lengths.iter().sum();
        let (mut message, last_unit) = escape(
            until_nul(self.message),
            true,
            MAX_ENTRY_SIZE - HEADER_SIZE - used,
        );
        let message_length = (message.len() + 1).min(MAX_ENTRY_SIZE - OVERHEAD - used);
        if message.len() >= message_length {
            message.truncate(last_unit);
        }

        let size = OVERHEAD + used + message_length;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&uid.to_le_bytes());
        bytes.extend_from_slice(&time.to_le_bytes());
        bytes.extend_from_slice(&text_digest(names[0]).to_le_bytes());
        bytes.extend_from_slice(&text_digest(names[1]).to_le_bytes());
        bytes.extend_from_slice(&self.pid.to_le_bytes());
        bytes.push(self.priority);
        bytes.extend(lengths.iter().flat_map(|length| u8::try_from(*length)));
        bytes.extend(u32::try_from(message_length).unwrap_or(0).to_le_bytes());
        for (name, length) in names.iter().zip(lengths) {
            bytes.extend(name.iter().take(length - 1));
            bytes.push(0);
        }
        bytes.extend_from_slice(&message);
        bytes.resize(size, 0);
        Some(Entry(bytes))
    }
}

/// A packed entry: the payload of a LOG message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Decodes the payload of a LOG message.
    ///
    /// # Errors
    /// If the lengths do not add up (in 64 bits) to the size of the payload, the entry is too large, or a text is not
    /// terminated.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let view = EntryView::decode_front(payload)?;
        if view.size() != payload.len() {
            return Err(EntryError::SizeMismatch {
                size: view.size(),
                available: payload.len(),
            });
        }
        if !view.is_terminated() {
            return Err(EntryError::Unterminated);
        }
        Ok(Self(payload.to_vec()))
    }

    /// The packed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The fields.
    pub fn view(&self) -> EntryView<'_> {
        EntryView::decode_front(&self.0).expect("packed here, or decoded before")
    }
}

/// The fields of a packed entry.
#[derive(Debug, Clone, Copy)]
pub struct EntryView<'a> {
    bytes: &'a [u8],
    /// Node name, ident, tag and message with all bytes that their lengths count; none is empty.
    texts: [&'a [u8]; 4],
    /// Ring position of the next older entry.
    pub prev: u32,
    /// Ring position behind the entry.
    pub next: u32,
    /// Number of the entry in the process that made it.
    pub uid: u32,
    /// Seconds since 1970.
    pub time: u32,
    /// Digest of the node name.
    pub node_digest: u64,
    /// Digest of the user.
    pub ident_digest: u64,
    /// Process that asked for the entry.
    pub pid: u32,
    /// Syslog priority.
    pub priority: u8,
}

impl<'a> EntryView<'a> {
    /// The entry that `bytes` begin with; more bytes may follow. Its texts may lack their NUL: C daemons have made such
    /// entries.
    ///
    /// # Errors
    /// If there are fewer bytes than the lengths say or more than an entry may have, or if a text has no byte.
    pub fn decode_front(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() < OVERHEAD {
            return Err(EntryError::Truncated(bytes.len()));
        }
        let mut rest = bytes;
        let mut entry = Self {
            bytes,
            texts: [&[]; 4],
            prev: rest.get_u32_le(),
            next: rest.get_u32_le(),
            uid: rest.get_u32_le(),
            time: rest.get_u32_le(),
            node_digest: rest.get_u64_le(),
            ident_digest: rest.get_u64_le(),
            pid: rest.get_u32_le(),
            priority: rest.get_u8(),
        };
        let names = [rest.get_u8(), rest.get_u8(), rest.get_u8()].map(u32::from);
        let lengths = [names[0], names[1], names[2], rest.get_u32_le()];
        let lengths = lengths.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let size = lengths
            .iter()
            .fold(OVERHEAD, |size, length| size.saturating_add(*length));
        let available = bytes.len();
        if size > available {
            return Err(EntryError::SizeMismatch { size, available });
        }
        if size > MAX_ENTRY_SIZE {
            return Err(EntryError::TooLarge(size));
        }
        for (text, length) in entry.texts.iter_mut().zip(lengths) {
            (*text, rest) = rest.split_at(length);
        }
        if entry.texts.iter().any(|text| text.is_empty()) {
            return Err(EntryError::Unterminated);
        }
        entry.bytes = bytes.split_at(size).0;
        Ok(entry)
    }

    /// Size in bytes, padding included.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Node name.
    pub fn node(&self) -> &'a [u8] {
        until_nul(self.texts[0])
    }

    /// User.
    pub fn ident(&self) -> &'a [u8] {
        until_nul(self.texts[1])
    }

    /// What the message is about.
    pub fn tag(&self) -> &'a [u8] {
        until_nul(self.texts[2])
    }

    /// The escaped message.
    pub fn message(&self) -> &'a [u8] {
        until_nul(self.texts[3])
    }

    /// Whether each text ends with a NUL.
    pub fn is_terminated(&self) -> bool {
        self.texts.iter().all(|text| text.last() == Some(&0))
    }

    /// Everything that identifies the entry: all but ring positions and padding.
    pub(crate) fn identity(&self) -> &'a [u8] {
        let end = self.bytes.len().saturating_sub(PADDING_SIZE);
        self.bytes.get(8..end).unwrap_or_default()
    }

    /// A copy of the entry with another number, for a place in a ring: its texts end with a NUL, its padding is zeros.
    pub(crate) fn copy(&self, prev: u32, next: u32, uid: u32) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.size());
        for field in [prev, next, uid] {
            copy.extend_from_slice(&field.to_le_bytes());
        }
        copy.extend_from_slice(self.bytes.get(12..HEADER_SIZE).unwrap_or_default());
        for text in self.texts {
            copy.extend(text.split_last().map_or(&[][..], |(_last, text)| text));
            copy.push(0);
        }
        copy.resize(self.size(), 0);
        copy
    }

    /// The same entry with another number, as a LOG message carries it.
    pub(crate) fn with_uid(&self, uid: u32) -> Entry {
        Entry(self.copy(0, 0, uid))
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
    let by_time = sign(a.time, b.time);
    if by_time.is_ne() {
        return by_time;
    }
    if a.node_digest != b.node_digest {
        return sign(low(a.node_digest), low(b.node_digest));
    }
    sign(a.uid, b.uid)
}
