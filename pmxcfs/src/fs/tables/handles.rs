//! Records of what is open.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | commit word; 0 in a slot that is free |
//! | 1 | number of the handle |
//! | 2 | node id by which it was opened; of a generated file the index of its plugin |
//! | 3 | number of the request that opened it |
//! | 4 | user id; from bit 32 on what it is: 0 a file, 1 a directory, 2 a generated file |
//! | 5 | inode; all ones once that is gone or another's |
//!
//! The checksum covers words 1 to 4. Word 5 is the only one that changes.

use std::sync::Arc;

use num_enum::FromPrimitive;

use super::layout::{HANDLES, LAST_HANDLE_AT};
use super::memory::Memory;
use super::slots::{Slots, commit_word};

const COMMIT: usize = 0;
const NUMBER: usize = 1;
const WHAT: usize = 2;
const OPENED_BY: usize = 3;
const USER: usize = 4;
const INODE: usize = 5;

const KIND_SHIFT: u32 = 32;

/// Inode of a handle whose entry is gone.
const GONE: u64 = u64::MAX;

/// What is open by a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromPrimitive)]
#[repr(u64)]
pub(in crate::fs) enum Opened {
    /// A file of the tree.
    #[num_enum(default)]
    File = 0,
    Directory = 1,
    /// A generated file.
    Plugin = 2,
}

/// A handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct HandleRecord {
    /// The number by which the kernel knows it.
    pub(in crate::fs) number: u64,
    /// The request that opened it.
    pub(in crate::fs) opened_by: u64,
    pub(in crate::fs) uid: u32,
    pub(in crate::fs) opened: Opened,
    /// Node id by which it was opened; of a generated file the index of its plugin.
    pub(in crate::fs) id: u64,
    /// `None` once the entry is gone, and for a generated file.
    pub(in crate::fs) inode: Option<u64>,
}

/// The records, by their slots.
#[derive(Debug)]
pub(in crate::fs) struct HandleRecords {
    slots: Slots,
}

impl HandleRecords {
    /// Finds the records.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub(super) fn open(memory: Arc<Memory>) -> Result<Self, &'static str> {
        let mut slots = Slots::new(memory, HANDLES)?;
        for slot in 0..slots.used() {
            let commit = slots.load(slot, COMMIT);
            let words = [NUMBER, WHAT, OPENED_BY, USER].map(|at| slots.load(slot, at));
            if commit == 0 {
                slots.give_back(slot);
            } else if commit != commit_word(words, &[]) {
                return Err("a handle with a wrong checksum");
            }
        }
        Ok(Self { slots })
    }

    /// All records.
    pub(in crate::fs) fn all(&self) -> impl Iterator<Item = (u32, HandleRecord)> + use<'_> {
        let slots = 0..self.slots.used();
        let slots = slots.filter(|slot| self.slots.load(*slot, COMMIT) != 0);
        slots.map(|slot| (slot, self.record(slot)))
    }

    fn record(&self, slot: u32) -> HandleRecord {
        let user = self.slots.load(slot, USER);
        let inode = self.slots.load(slot, INODE);
        HandleRecord {
            number: self.slots.load(slot, NUMBER),
            opened_by: self.slots.load(slot, OPENED_BY),
            uid: u32::try_from(user & u64::from(u32::MAX)).unwrap_or(0),
            opened: Opened::from(user >> KIND_SHIFT),
            id: self.slots.load(slot, WHAT),
            inode: Some(inode).filter(|inode| *inode != GONE),
        }
    }

    /// A number that no handle had before.
    pub(in crate::fs) fn draw(&mut self) -> u64 {
        let memory = self.slots.memory();
        let number = memory.load(LAST_HANDLE_AT) + 1;
        memory.store(LAST_HANDLE_AT, number);
        number
    }

    /// Adds a handle that a reply is about to name. `None` if there is no room.
    pub(in crate::fs) fn add(&mut self, new: &HandleRecord) -> Option<u32> {
        let slot = self.slots.take()?;
        let user = u64::from(new.uid) | (new.opened as u64) << KIND_SHIFT;
        let words = [new.number, new.id, new.opened_by, user];
        for (at, word) in (NUMBER..).zip(words) {
            self.slots.store(slot, at, word);
        }
        self.slots.store(slot, INODE, new.inode.unwrap_or(GONE));
        self.slots.commit(slot, COMMIT, commit_word(words, &[]));
        Some(slot)
    }

    /// The entry of a handle is gone, or the inode is another's.
    pub(in crate::fs) fn lose(&mut self, slot: u32) {
        self.slots.store(slot, INODE, GONE);
    }

    /// Ends a handle.
    pub(in crate::fs) fn remove(&mut self, slot: u32) {
        self.slots.clear(slot, COMMIT);
        self.slots.give_back(slot);
    }
}
