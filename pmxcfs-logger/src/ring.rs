//! The ring of entries, in the layout that members send to each other as their STATE.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | size of the ring in bytes, this header included |
//! | 4 | 4 | position of the newest entry, 0 = the ring is empty |
//! | 8 | | entries, each at a multiple of 8, linked from newer to older |
//!
//! Old entries are overwritten without being unlinked. A walk therefore ends at positions that the newest entry may
//! have overwritten: those up to 4096 bytes behind its start.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Ordering;

use crate::entry::{EntryView, MAX_ENTRY_SIZE, OVERHEAD, entry_order};

/// Size of a member's own ring in bytes.
pub const RING_SIZE: usize = 131_072;

const RING_SIZE_U32: u32 = 131_072;
const MAX_ENTRY_SIZE_U32: u32 = 4096;

/// Bytes in front of the first entry, and the position of that entry.
pub(crate) const RING_HEADER_SIZE: usize = 8;

/// Smallest ring that is sent: C peers refuse one that is only a header.
const MIN_STATE_SIZE: usize = 16;

/// Why a ring of a peer is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Not longer than the header, or the size field differs from the number of bytes.
    #[error("cluster log of {length} bytes claims to have {size}")]
    WrongSize {
        /// Bytes there are.
        length: usize,
        /// The size field, 0 if there is none.
        size: u32,
    },
    /// An entry is not at a multiple of 8 inside of the ring.
    #[error("cluster log has an entry at position {0}")]
    BadPosition(u32),
    /// An entry reaches over the end of the ring or into a newer entry, is too large, or has an empty text field.
    #[error("cluster log has a malformed entry at position {0}")]
    BadEntry(u32),
    /// An entry is linked to a position that the walk has passed.
    #[error("cluster log is linked in a circle at position {0}")]
    Circle(u32),
}

/// Bytes that an entry of this size takes up in the ring.
pub(crate) fn rounded(size: usize) -> usize {
    size.next_multiple_of(8)
}

/// Ring of this member. It only ever holds well-formed, terminated entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    bytes: Vec<u8>,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = vec![0; RING_SIZE];
        put_u32(&mut bytes, 0, RING_SIZE_U32);
        Self { bytes }
    }

    /// The ring as C daemons keep it, all 131072 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends an entry as the newest and says whether it was stored; entries that are too large are not.
    ///
    /// The copy has zeros for padding, and each text ends with a NUL.
    pub fn append(&mut self, entry: EntryView<'_>) -> bool {
        let size = entry.size();
        if size <= OVERHEAD || size > MAX_ENTRY_SIZE || !entry.has_texts() {
            return false;
        }
        let room = rounded(size);
        let newest = self.view().newest();
        let start = self
            .view()
            .entry_at(newest)
            .ok()
            .and_then(|entry| usize::try_from(entry.next()).ok())
            .filter(|next| next.saturating_add(room) < RING_SIZE)
            .unwrap_or(RING_HEADER_SIZE);
        let end = start.saturating_add(room);
        let (Ok(position), Ok(next)) = (u32::try_from(start), u32::try_from(end)) else {
            return false;
        };
        let Some(slot) = self.bytes.get_mut(start..end) else {
            return false;
        };
        put_u32(slot, 0, newest);
        put_u32(slot, 4, next);
        let text = entry.identity();
        let text_end = text.len().saturating_add(8);
        if let Some(target) = slot.get_mut(8..text_end) {
            target.copy_from_slice(text);
        }
        if let Some(padding) = slot.get_mut(text_end..size) {
            padding.fill(0);
        }
        for offset in entry.last_bytes() {
            if let Some(byte) = slot.get_mut(offset) {
                *byte = 0;
            }
        }
        put_u32(&mut self.bytes, 4, position);
        true
    }

    /// The entries from the newest to the oldest.
    #[must_use]
    pub fn walk(&self) -> Walk<'_> {
        self.view().walk()
    }

    /// The ring as it would be seen by a peer.
    #[must_use]
    pub fn view(&self) -> RingView<'_> {
        RingView { bytes: &self.bytes }
    }

    /// A copy in ascending order, without entries that compare equal to an older-positioned one.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut entries: Vec<EntryView<'_>> = Vec::new();
        for step in self.walk() {
            match entries.binary_search_by(|other| entry_order(other, &step.entry)) {
                Ok(index) => {
                    if let Some(same) = entries.get_mut(index) {
                        *same = step.entry;
                    }
                }
                Err(index) => entries.insert(index, step.entry),
            }
        }
        Self::from_ascending(entries)
    }

    /// An empty ring to which the entries were appended in order.
    pub(crate) fn from_ascending<'a>(entries: impl IntoIterator<Item = EntryView<'a>>) -> Self {
        let mut ring = Self::new();
        for entry in entries {
            ring.append(entry);
        }
        ring
    }

    /// The STATE of this member: the used part of the ring, with the size field set to match. A ring that has wrapped
    /// is sent whole; a sorted one has not.
    #[must_use]
    pub fn to_state(&self) -> Vec<u8> {
        let newest = self.view().newest();
        let has_wrapped = self.walk().any(|step| step.entry.prev() > step.position);
        let end = match self.view().entry_at(newest) {
            Ok(_) if has_wrapped => RING_SIZE_U32,
            Ok(entry) => entry.next(),
            Err(_) => 0,
        };
        let size = usize::try_from(end)
            .unwrap_or(RING_SIZE)
            .max(MIN_STATE_SIZE);
        let mut state = self.bytes.get(..size).unwrap_or(&self.bytes).to_vec();
        let length = u32::try_from(state.len()).unwrap_or(RING_SIZE_U32);
        put_u32(&mut state, 0, length);
        state
    }
}

fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    if let Some(target) = bytes
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut::<4>())
    {
        *target = value.to_le_bytes();
    }
}

/// A ring whose entries can be walked: the own one, or a peer's that was checked.
#[derive(Debug, Clone, Copy)]
pub struct RingView<'a> {
    bytes: &'a [u8],
}

impl<'a> RingView<'a> {
    /// Checks the STATE of a peer, of any size, entry by entry.
    ///
    /// Links must lead to older positions only, with at most one wrap to the upper end of the ring; entries must be
    /// aligned, lie inside of the ring and not overlap. Texts without NUL are accepted, since C daemons store such
    /// messages, and are terminated when they are copied.
    ///
    /// # Errors
    /// If any of that does not hold; the ring is then not used at all.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RingError> {
        let ring = Self { bytes };
        let size = ring.u32_at(0);
        if bytes.len() <= RING_HEADER_SIZE || usize::try_from(size) != Ok(bytes.len()) {
            return Err(RingError::WrongSize {
                length: bytes.len(),
                size,
            });
        }
        let mut walk = ring.walk();
        while walk.advance()?.is_some() {}
        Ok(ring)
    }

    /// Position of the newest entry, 0 if there is none.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.u32_at(4)
    }

    /// The entries from the newest to the oldest.
    #[must_use]
    pub fn walk(&self) -> Walk<'a> {
        let newest = self.newest();
        Walk {
            ring: *self,
            head: newest,
            position: newest,
            upper: u32::MAX,
            wrapped: false,
        }
    }

    fn entry_at(&self, position: u32) -> Result<EntryView<'a>, RingError> {
        let start = usize::try_from(position)
            .ok()
            .filter(|start| *start >= RING_HEADER_SIZE && start.is_multiple_of(8))
            .ok_or(RingError::BadPosition(position))?;
        let rest = self
            .bytes
            .get(start..)
            .ok_or(RingError::BadPosition(position))?;
        EntryView::parse_front(rest)
            .ok()
            .filter(|entry| entry.size() <= MAX_ENTRY_SIZE && entry.has_texts())
            .ok_or(RingError::BadEntry(position))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        self.bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

/// One entry on a walk through a ring.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Where it is.
    pub position: u32,
    /// The entry.
    pub entry: EntryView<'a>,
    /// The next older entry lay where newer ones are now. Sorting and merging use this entry, the dump does not.
    pub is_cut_off: bool,
}

/// Walks a ring from its newest entry to its oldest. Ends early, rather than fails, if the ring is malformed.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    ring: RingView<'a>,
    head: u32,
    /// Where to go next; 0 at the end.
    position: u32,
    /// Where the entry must end at the latest.
    upper: u32,
    wrapped: bool,
}

impl<'a> Walk<'a> {
    fn advance(&mut self) -> Result<Option<Step<'a>>, RingError> {
        let position = self.position;
        if position == 0 || self.is_overwritten(position) {
            return Ok(None);
        }
        let entry = self.ring.entry_at(position)?;
        let length = u32::try_from(entry.size()).unwrap_or(u32::MAX);
        if position.saturating_add(length) > self.upper {
            return Err(RingError::BadEntry(position));
        }
        let prev = entry.prev();
        let is_cut_off = position < prev && prev <= self.head;
        self.upper = position;
        match prev.cmp(&position) {
            _ if prev == 0 || is_cut_off => self.position = 0,
            Ordering::Less if self.wrapped && prev <= self.head => {
                return Err(RingError::Circle(position));
            }
            Ordering::Less => self.position = prev,
            Ordering::Greater if !self.wrapped => {
                self.wrapped = true;
                self.upper = u32::MAX;
                self.position = prev;
            }
            Ordering::Equal | Ordering::Greater => return Err(RingError::Circle(position)),
        }
        Ok(Some(Step {
            position,
            entry,
            is_cut_off,
        }))
    }

    /// Whether the newest entry may have overwritten this position.
    fn is_overwritten(&self, position: u32) -> bool {
        position > self.head && position <= self.head.saturating_add(MAX_ENTRY_SIZE_U32)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let step = self.advance().unwrap_or_default();
        if step.is_none() {
            self.position = 0;
        }
        step
    }
}
