//! Records of changes that the kernel has asked for and that are not answered yet.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | number of the request; 0 in a slot that is free, or whose request has changed nothing yet |
//! | 1 | outcome: 0 if it is unknown, else bit 63, bit 62 for an error, bit 61 on a node alone, and a count or errno |
//! | 2 | version of the database with which the outcome holds |

use std::sync::Arc;

use super::layout::ANSWERS;
use super::memory::Memory;
use super::slots::Slots;

const REQUEST: usize = 0;
const OUTCOME: usize = 1;
const VERSION: usize = 2;

const IS_KNOWN: u64 = 1 << 63;
const IS_ERROR: u64 = 1 << 62;
const IS_ALONE: u64 = 1 << 61;

/// What has come of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Outcome {
    /// A count, or an errno.
    pub(in crate::fs) result: Result<u32, u32>,
    /// The node was alone, so that nobody else has the change.
    pub(in crate::fs) is_alone: bool,
    /// The change is part of the database from this version on.
    pub(in crate::fs) version: u64,
}

/// The records, by their slots.
#[derive(Debug)]
pub(in crate::fs) struct AnswerRecords {
    slots: Slots,
}

impl AnswerRecords {
    /// Finds the records.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub(super) fn open(memory: Arc<Memory>) -> Result<Self, &'static str> {
        let mut slots = Slots::new(memory, ANSWERS)?;
        for slot in 0..slots.used() {
            if slots.load(slot, REQUEST) == 0 {
                slots.give_back(slot);
            }
        }
        Ok(Self { slots })
    }

    /// The requests that have begun to change something, each with its slot and what has come of it, if that is known.
    pub(in crate::fs) fn all(&self) -> impl Iterator<Item = (u64, u32, Option<Outcome>)> {
        let slots = (0..self.slots.used()).map(|slot| (self.slots.load(slot, REQUEST), slot));
        let slots = slots.filter(|(request, _)| *request != 0);
        slots.map(|(request, slot)| (request, slot, self.outcome(slot)))
    }

    fn outcome(&self, slot: u32) -> Option<Outcome> {
        let word = self.slots.load(slot, OUTCOME);
        let number = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        (word & IS_KNOWN != 0).then(|| Outcome {
            result: match word & IS_ERROR {
                0 => Ok(number),
                _ => Err(number),
            },
            is_alone: word & IS_ALONE != 0,
            version: self.slots.load(slot, VERSION),
        })
    }

    /// A slot for a request, `None` if there is no room.
    pub(in crate::fs) fn take(&mut self) -> Option<u32> {
        self.slots.take()
    }

    /// A request is about to change something, and what comes of it is unknown.
    pub(in crate::fs) fn begin(&mut self, slot: u32, request: u64) {
        self.slots.store(slot, OUTCOME, 0);
        self.slots.commit(slot, REQUEST, request);
    }

    /// A request has changed something, with this outcome.
    pub(in crate::fs) fn end(&mut self, slot: u32, request: u64, outcome: Outcome) {
        let (kind, number) = match outcome.result {
            Ok(count) => (0, count),
            Err(errno) => (IS_ERROR, errno),
        };
        let place = if outcome.is_alone { IS_ALONE } else { 0 };
        let word = IS_KNOWN | kind | place | u64::from(number);
        self.slots.store(slot, VERSION, outcome.version);
        self.slots.commit(slot, OUTCOME, word);
        self.slots.commit(slot, REQUEST, request);
    }

    /// A request has turned out to change nothing so far.
    pub(in crate::fs) fn clear(&mut self, slot: u32) {
        self.slots.clear(slot, REQUEST);
    }

    /// A request is answered.
    pub(in crate::fs) fn give_back(&mut self, slot: u32) {
        self.clear(slot);
        self.slots.give_back(slot);
    }
}
