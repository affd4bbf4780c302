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

use crate::entry::{EntryView, MAX_ENTRY_SIZE, entry_order};

/// Size of a member's own ring in bytes.
pub const RING_SIZE: usize = 131_072;

/// Bytes in front of the first entry, and the position of that entry.
pub(crate) const RING_HEADER_SIZE: usize = 8;

/// Smallest ring that is sent: C peers refuse one that is only a header.
const MIN_STATE_SIZE: usize = 16;

/// Why a ring of a peer is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    pub fn new() -> Self {
        let mut bytes = vec![0; RING_SIZE];
        put_u32(&mut bytes, 0, to_position(RING_SIZE));
        Self { bytes }
    }

    /// The ring as C daemons keep it, all 131072 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends an entry as the newest.
    pub fn append(&mut self, entry: &EntryView<'_>) {
        let ring = self.view();
        let newest = ring.newest();
        let room = rounded(entry.size());
        let start = ring
            .entry_at(newest)
            .map_or(RING_HEADER_SIZE, |entry| to_index(entry.next));
        let (start, end) = match start.saturating_add(room) {
            end @ ..RING_SIZE => (start, end),
            _ => (RING_HEADER_SIZE, RING_HEADER_SIZE.saturating_add(room)),
        };
        let copy = entry.copy(newest, to_position(end), entry.uid);
        if let Some((place, _behind)) = self
            .bytes
            .get_mut(start..)
            .and_then(|rest| rest.split_at_mut_checked(copy.len()))
        {
            place.copy_from_slice(&copy);
        }
        put_u32(&mut self.bytes, 4, to_position(start));
    }

    /// The entries from the newest to the oldest.
    pub fn walk(&self) -> Walk<'_> {
        self.view().walk()
    }

    /// The ring as it would be seen by a peer.
    pub fn view(&self) -> RingView<'_> {
        RingView { bytes: &self.bytes }
    }

    /// A copy in ascending order, without entries that compare equal to an older-positioned one.
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
            ring.append(&entry);
        }
        ring
    }

    /// The STATE of this member: the used part of the ring, with the size field set to match. A ring that has wrapped
    /// is sent whole; a sorted one has not.
    pub fn to_state(&self) -> Vec<u8> {
        let newest = self.view().entry_at(self.view().newest());
        let has_wrapped = self.walk().any(|step| step.entry.prev > step.position);
        let end = match newest {
            Ok(_) if has_wrapped => RING_SIZE,
            Ok(entry) => to_index(entry.next),
            Err(_) => 0,
        };
        let size = end.max(MIN_STATE_SIZE);
        let mut state = self.bytes.get(..size).unwrap_or(&self.bytes).to_vec();
        let length = to_position(state.len());
        put_u32(&mut state, 0, length);
        state
    }
}

/// A position as an index into the bytes of a ring.
fn to_index(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// An index into the bytes of a ring as a position.
fn to_position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
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
        if bytes.len() <= RING_HEADER_SIZE || to_index(size) != bytes.len() {
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
    pub fn newest(&self) -> u32 {
        self.u32_at(4)
    }

    /// The entries from the newest to the oldest.
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
        let start = to_index(position);
        let is_place = start >= RING_HEADER_SIZE && start.is_multiple_of(8);
        let rest = self.bytes.get(start..).filter(|_| is_place);
        let rest = rest.ok_or(RingError::BadPosition(position))?;
        EntryView::decode_front(rest).map_err(|_malformed| RingError::BadEntry(position))
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
        if position.saturating_add(to_position(entry.size())) > self.upper {
            return Err(RingError::BadEntry(position));
        }
        let prev = entry.prev;
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
        position > self.head && position <= self.head.saturating_add(to_position(MAX_ENTRY_SIZE))
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
