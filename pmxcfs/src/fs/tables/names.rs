//! Records of names that the kernel knows.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | commit word; 0 in a slot that is free or a piece of a name |
//! | 1 | node id |
//! | 2 | node id of the directory |
//! | 3 | inode that the id was given out for |
//! | 4 | length of the name; bit 16: a directory; from bit 17 on the version of the database that has given it its place |
//! | 5 | slot of the next piece of the name plus 1, or 0 |
//! | 6 | how many replies named the id; bit 63: the record is the one of its name |
//! | 7 to 15 | the name, or its first 72 bytes |
//!
//! A piece has the slot of the next one plus 1 in word 1 and 112 bytes from word 2 on. The checksum covers all but word 6, which
//! is the only one that changes. A record whose place changes is written anew, and the former one is taken away when the crash
//! journal has that change. A kill before that leaves both; which of them counts, the version of the database says.

use std::collections::HashMap;
use std::sync::Arc;

use pmxcfs_memdb::EntryKind;
use smallvec::SmallVec;

use super::super::node::ROOT_ID;
use super::layout::{DRAWN_AT, NAMES, WORD_SIZE};
use super::memory::Memory;
use super::slots::{Slots, commit_word};

const COMMIT: usize = 0;
const ID: usize = 1;
const PARENT: usize = 2;
const ORIGIN: usize = 3;
const SHAPE: usize = 4;
const NEXT: usize = 5;
const STATE: usize = 6;
const NAME: usize = 7;
const PIECE_NEXT: usize = 1;
const PIECE_NAME: usize = 2;
const WIDTH: usize = 16;

const FIRST_LENGTH: usize = (WIDTH - NAME) * WORD_SIZE;
const PIECE_LENGTH: usize = (WIDTH - PIECE_NAME) * WORD_SIZE;

const LENGTH_MASK: u64 = 0xffff;
const IS_DIRECTORY: u64 = 1 << 16;
const VERSION_SHIFT: u32 = 17;
const IS_CURRENT: u64 = 1 << 63;

/// A name, as a rule without an allocation.
pub(in crate::fs) type NameBuf = SmallVec<[u8; FIRST_LENGTH]>;

/// What a record says when it is made.
#[derive(Debug, Clone, Copy)]
pub(in crate::fs) struct NewName<'a> {
    /// Node id.
    pub(in crate::fs) id: u64,
    /// Node id of the directory.
    pub(in crate::fs) parent: u64,
    pub(in crate::fs) name: &'a [u8],
    pub(in crate::fs) kind: EntryKind,
    /// Inode that the id was given out for.
    pub(in crate::fs) origin: u64,
}

/// The records, by their slots.
#[derive(Debug)]
pub(in crate::fs) struct NameRecords {
    slots: Slots,
}

impl NameRecords {
    /// Finds the records.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub(super) fn open(memory: Arc<Memory>) -> Result<Self, &'static str> {
        let slots = Slots::new(memory, NAMES)?;
        let mut this = Self { slots };
        this.check()?;
        Ok(this)
    }

    /// Checks all records and gives back the slots that none of them uses.
    fn check(&mut self) -> Result<(), &'static str> {
        let count = self.slots.used();
        let mut is_in_use = vec![false; count as usize];
        for slot in self.all() {
            self.check_record(slot, &mut is_in_use)?;
        }
        self.check_parents()?;
        for (slot, _) in (0..count).zip(is_in_use).filter(|(_, in_use)| !in_use) {
            self.slots.clear(slot, COMMIT);
            self.slots.give_back(slot);
        }
        Ok(())
    }

    /// Removes the records that the version of the database which was loaded does not have, and those that have followers which it
    /// has.
    pub(in crate::fs) fn settle(&mut self, version: u64) {
        let mut present: HashMap<u64, u32> = HashMap::new();
        for slot in self.all() {
            let Some(other) = present.insert(self.id(slot), slot) else {
                continue;
            };
            let rank = |slot: u32| Some(self.version(slot)).filter(|it| *it <= version);
            let (kept, removed) = match rank(slot) > rank(other) {
                true => (slot, other),
                false => (other, slot),
            };
            present.insert(self.id(slot), kept);
            self.remove(removed);
        }
    }

    fn check_record(&self, slot: u32, is_in_use: &mut [bool]) -> Result<(), &'static str> {
        let mut at = slot;
        let mut rest = self.length(slot);
        let mut next = NEXT;
        let mut length = FIRST_LENGTH;
        loop {
            match is_in_use.get_mut(at as usize) {
                Some(in_use) if !*in_use => *in_use = true,
                _ => return Err("a name whose pieces are another's"),
            }
            if rest <= length {
                break;
            }
            rest -= length;
            let piece = linked(self.slots.load(at, next));
            at = piece.ok_or("a name whose pieces are missing")?;
            (next, length) = (PIECE_NEXT, PIECE_LENGTH);
        }
        match self.slots.load(slot, COMMIT) == self.commit_word(slot) {
            true => Ok(()),
            false => Err("a name with a wrong checksum"),
        }
    }

    /// Checks that all names lie below the root.
    fn check_parents(&self) -> Result<(), &'static str> {
        let by_id: HashMap<u64, u32> = self.all().map(|slot| (self.id(slot), slot)).collect();
        let mut is_below = vec![false; self.slots.used() as usize];
        for start in self.all() {
            let mut way = vec![start];
            let mut at = start;
            while !is_below[at as usize] && self.id(at) != ROOT_ID {
                let parent = by_id.get(&self.parent(at)).copied();
                let parent = parent.filter(|it| self.kind(*it) == EntryKind::Directory);
                at = parent.ok_or("a name without a directory")?;
                way.push(at);
                if way.len() > by_id.len() + 1 {
                    return Err("a directory below itself");
                }
            }
            for slot in way {
                is_below[slot as usize] = true;
            }
        }
        Ok(())
    }

    /// The slots of all records.
    pub(in crate::fs) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        let slots: Vec<u32> = (0..self.slots.used())
            .filter(|slot| self.slots.load(*slot, COMMIT) != 0)
            .collect();
        slots.into_iter()
    }

    /// Adds the record of a name that a reply is about to name. `None` if there is no room.
    pub(in crate::fs) fn add(&mut self, new: &NewName<'_>) -> Option<u32> {
        self.write(new, 0, IS_CURRENT | 1)
    }

    fn write(&mut self, new: &NewName<'_>, version: u64, state: u64) -> Option<u32> {
        let (first, rest) = new.name.split_at(new.name.len().min(FIRST_LENGTH));
        let slot = self.slots.take()?;
        let mut next = 0;
        for piece in rest.chunks(PIECE_LENGTH).rev() {
            let Some(slot_of_piece) = self.slots.take() else {
                self.give_back_pieces(next);
                self.slots.give_back(slot);
                return None;
            };
            self.slots.store(slot_of_piece, PIECE_NEXT, next);
            self.write_bytes(slot_of_piece, PIECE_NAME, piece);
            next = u64::from(slot_of_piece) + 1;
        }
        let kind = match new.kind {
            EntryKind::Directory => IS_DIRECTORY,
            EntryKind::File => 0,
        };
        let shape = new.name.len() as u64 | kind | version << VERSION_SHIFT;
        let words = [new.id, new.parent, new.origin, shape, next];
        for (at, word) in (ID..).zip(words) {
            self.slots.store(slot, at, word);
        }
        self.slots.store(slot, STATE, state);
        self.write_bytes(slot, NAME, first);
        self.slots
            .commit(slot, COMMIT, commit_word(words, new.name));
        Some(slot)
    }

    fn write_bytes(&self, slot: u32, at: usize, bytes: &[u8]) {
        for (at, word) in (at..).zip(words(bytes)) {
            self.slots.store(slot, at, word);
        }
    }

    /// Writes the record that takes the place of another one, at the place that a version of the database has given it. `None` if
    /// there is no room.
    pub(in crate::fs) fn add_follower(
        &mut self,
        slot: u32,
        parent: u64,
        name: &[u8],
        version: u64,
    ) -> Option<u32> {
        let new = NewName {
            id: self.id(slot),
            parent,
            name,
            kind: self.kind(slot),
            origin: self.origin(slot),
        };
        self.write(&new, version, self.slots.load(slot, STATE))
    }

    /// Removes a record.
    pub(in crate::fs) fn remove(&mut self, slot: u32) {
        self.slots.clear(slot, COMMIT);
        self.give_back_pieces(self.slots.load(slot, NEXT));
        self.slots.give_back(slot);
    }

    fn give_back_pieces(&mut self, first: u64) {
        for slot in self.pieces(first).collect::<Vec<u32>>() {
            self.slots.give_back(slot);
        }
    }

    /// The slots of the pieces of a name, from a link on.
    fn pieces(&self, first: u64) -> impl Iterator<Item = u32> + use<'_> {
        std::iter::successors(linked(first), |slot| {
            linked(self.slots.load(*slot, PIECE_NEXT))
        })
    }

    /// Node id.
    pub(in crate::fs) fn id(&self, slot: u32) -> u64 {
        self.slots.load(slot, ID)
    }

    /// Node id of the directory.
    pub(in crate::fs) fn parent(&self, slot: u32) -> u64 {
        self.slots.load(slot, PARENT)
    }

    /// Inode that the id was given out for.
    pub(in crate::fs) fn origin(&self, slot: u32) -> u64 {
        self.slots.load(slot, ORIGIN)
    }

    pub(in crate::fs) fn kind(&self, slot: u32) -> EntryKind {
        match self.slots.load(slot, SHAPE) & IS_DIRECTORY {
            0 => EntryKind::File,
            _ => EntryKind::Directory,
        }
    }

    fn version(&self, slot: u32) -> u64 {
        self.slots.load(slot, SHAPE) >> VERSION_SHIFT
    }

    fn length(&self, slot: u32) -> usize {
        usize::try_from(self.slots.load(slot, SHAPE) & LENGTH_MASK).unwrap_or(0)
    }

    /// Whether the record is the one of its name. Otherwise it is displaced.
    pub(in crate::fs) fn is_current(&self, slot: u32) -> bool {
        self.slots.load(slot, STATE) & IS_CURRENT != 0
    }

    pub(in crate::fs) fn displace(&self, slot: u32) {
        let state = self.slots.load(slot, STATE);
        self.slots.store(slot, STATE, state & !IS_CURRENT);
    }

    /// Replies that named the id and that the kernel has not taken back.
    pub(in crate::fs) fn lookups(&self, slot: u32) -> u64 {
        self.slots.load(slot, STATE) & !IS_CURRENT
    }

    pub(in crate::fs) fn set_lookups(&self, slot: u32, count: u64) {
        let is_current = self.slots.load(slot, STATE) & IS_CURRENT;
        self.slots.store(slot, STATE, is_current | count);
    }

    pub(in crate::fs) fn name(&self, slot: u32) -> NameBuf {
        let length = self.length(slot);
        let mut name = NameBuf::with_capacity(length);
        for word in self.words(slot) {
            let missing = WORD_SIZE.min(length - name.len());
            name.extend_from_slice(&word.to_le_bytes()[..missing]);
        }
        name
    }

    /// Whether a record is of this name.
    pub(in crate::fs) fn is_named(&self, slot: u32, name: &[u8]) -> bool {
        self.length(slot) == name.len() && self.words(slot).eq(words(name))
    }

    /// The [`words`] of a record's name.
    pub(in crate::fs) fn words(&self, slot: u32) -> impl Iterator<Item = u64> + use<'_> {
        let mut at = (slot, NAME);
        let count = self.length(slot).div_ceil(WORD_SIZE);
        (0..count).map(move |_| {
            if at.1 == WIDTH {
                let next = if at.0 == slot { NEXT } else { PIECE_NEXT };
                let piece = linked(self.slots.load(at.0, next));
                at = (piece.unwrap_or(slot), PIECE_NAME);
            }
            let word = self.slots.load(at.0, at.1);
            at.1 += 1;
            word
        })
    }

    fn commit_word(&self, slot: u32) -> u64 {
        let words = [ID, PARENT, ORIGIN, SHAPE, NEXT].map(|at| self.slots.load(slot, at));
        commit_word(words, &self.name(slot))
    }

    /// Draws a number that was never drawn before.
    pub(in crate::fs) fn draw(&mut self) -> u64 {
        let memory = self.slots.memory();
        let drawn = memory.load(DRAWN_AT);
        memory.store(DRAWN_AT, drawn + 1);
        drawn
    }
}

/// The slot that a link leads to.
fn linked(link: u64) -> Option<u32> {
    u32::try_from(link.checked_sub(1)?).ok()
}

/// A name as the records have it: words of eight bytes, the last one filled up with zeros.
pub(in crate::fs) fn words(name: &[u8]) -> impl Iterator<Item = u64> {
    name.chunks(WORD_SIZE).map(|chunk| {
        let mut bytes = [0; WORD_SIZE];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    })
}
