//! Which slots of a table are in use.

use std::sync::Arc;

use super::layout::Area;
use super::memory::Memory;

/// The slots of a table. All of them below [`Slots::used`] are in use or free; the others have never been used.
#[derive(Debug)]
pub(super) struct Slots {
    memory: Arc<Memory>,
    area: Area,
    free: Vec<u32>,
}

impl Slots {
    /// Those of a table, of which all that were ever used count as in use until they are [given back](Self::give_back).
    ///
    /// # Errors
    /// What is wrong with the table.
    pub(super) fn new(memory: Arc<Memory>, area: Area) -> Result<Self, &'static str> {
        if memory.load(area.used_at) > u64::from(area.capacity) {
            return Err("more slots in use than there are");
        }
        let free = Vec::new();
        Ok(Self { memory, area, free })
    }

    /// How many slots have ever been used.
    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.memory.load(self.area.used_at)).unwrap_or(self.area.capacity)
    }

    /// A slot for a new record, `None` if all are in use.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = self.used();
            (slot < self.area.capacity).then(|| {
                self.memory.store(self.area.used_at, u64::from(slot) + 1);
                slot
            })
        })
    }

    /// A slot is free again. Nothing in it may count any more.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    pub(super) fn load(&self, slot: u32, word: usize) -> u64 {
        self.memory.load(self.area.word(slot, word))
    }

    pub(super) fn store(&self, slot: u32, word: usize, value: u64) {
        self.memory.store(self.area.word(slot, word), value);
    }

    /// As [`Memory::commit`].
    pub(super) fn commit(&self, slot: u32, word: usize, value: u64) {
        self.memory.commit(self.area.word(slot, word), value);
    }

    /// As [`Memory::clear`].
    pub(super) fn clear(&self, slot: u32, word: usize) {
        self.memory.clear(self.area.word(slot, word));
    }

    /// The memory that the slots are in.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// The commit word of a record: it is written last and says that the others, by their checksum, are the record's.
pub(super) fn commit_word<const COUNT: usize>(words: [u64; COUNT], bytes: &[u8]) -> u64 {
    let words = words.map(u64::to_le_bytes);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(words.as_flattened());
    checksum.update(bytes);
    1 << 63 | u64::from(checksum.finalize())
}
