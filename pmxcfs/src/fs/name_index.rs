//! Finds the records of names: by node id, and by directory and name.
//!
//! The records are in memory that outlives the process; the index is not, and holds nothing but their slots.

use std::hash::{BuildHasher as _, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::tables::{NameRecords, NewName, words};

/// Some records, as a rule one.
pub(super) type Slots = SmallVec<[u32; 2]>;

/// Records, and where they are.
#[derive(Debug)]
pub(super) struct NameIndex {
    records: NameRecords,
    by_id: HashTable<u32>,
    /// Those that are the one of their name.
    current: HashTable<u32>,
    displaced: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl NameIndex {
    /// Finds what a former process has left. `version` of the database is loaded.
    pub(super) fn new(mut records: NameRecords, version: u64) -> Self {
        records.settle(version);
        let slots = records.all();
        let mut this = Self {
            records,
            by_id: HashTable::new(),
            current: HashTable::new(),
            displaced: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        };
        for slot in slots {
            this.enter(slot);
        }
        this
    }

    pub(super) fn records(&self) -> &NameRecords {
        &self.records
    }

    pub(super) fn records_mut(&mut self) -> &mut NameRecords {
        &mut self.records
    }

    /// The record of a node id.
    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let found = self.by_id.find(hash, |slot| self.records.id(*slot) == id);
        found.copied()
    }

    /// The record that is the one of a name.
    pub(super) fn current(&self, parent: u64, name: &[u8]) -> Option<u32> {
        let hash = hash_of_place(&self.hasher, parent, words(name));
        let found = self
            .current
            .find(hash, |slot| self.is_at(*slot, parent, name));
        found.copied()
    }

    /// All records of a name.
    pub(super) fn of_place(&self, parent: u64, name: &[u8]) -> Slots {
        let hash = hash_of_place(&self.hasher, parent, words(name));
        let displaced = self.displaced.iter_hash(hash).copied();
        let displaced = displaced.filter(|slot| self.is_at(*slot, parent, name));
        self.current(parent, name)
            .into_iter()
            .chain(displaced)
            .collect()
    }

    fn is_at(&self, slot: u32, parent: u64, name: &[u8]) -> bool {
        self.records.parent(slot) == parent && self.records.is_named(slot, name)
    }

    /// Adds the record of a name that a reply is about to name. `None` if there is no room.
    pub(super) fn add(&mut self, new: &NewName<'_>) -> Option<u32> {
        let slot = self.records.add(new)?;
        self.enter(slot);
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.leave_place(slot);
        let hash = self.hasher.hash_one(self.records.id(slot));
        remove(&mut self.by_id, hash, slot);
        self.records.remove(slot);
    }

    /// A record is not the one of its name any more.
    pub(super) fn displace(&mut self, slot: u32) {
        self.leave_place(slot);
        self.records.displace(slot);
        self.enter_place(slot);
    }

    /// Finds a record at another place, and in another slot, from now on. The former one is to be removed
    /// from the records when nobody needs it. `None` if there is no room; it stays where it is then.
    pub(super) fn rename(
        &mut self,
        slot: u32,
        parent: u64,
        name: &[u8],
        version: u64,
    ) -> Option<u32> {
        let follower = self.records.add_follower(slot, parent, name, version)?;
        self.leave_place(slot);
        self.enter_place(follower);
        let hash = self.hasher.hash_one(self.records.id(slot));
        if let Some(found) = self.by_id.find_mut(hash, |other| *other == slot) {
            *found = follower;
        }
        Some(follower)
    }

    fn enter(&mut self, slot: u32) {
        let by_id = |slot: &u32| self.hasher.hash_one(self.records.id(*slot));
        self.by_id.insert_unique(by_id(&slot), slot, by_id);
        self.enter_place(slot);
    }

    fn enter_place(&mut self, slot: u32) {
        let (records, hasher) = (&self.records, &self.hasher);
        let by_place = |slot: &u32| {
            let words = records.words(*slot);
            hash_of_place(hasher, records.parent(*slot), words)
        };
        let places = match records.is_current(slot) {
            true => &mut self.current,
            false => &mut self.displaced,
        };
        places.insert_unique(by_place(&slot), slot, by_place);
    }

    fn leave_place(&mut self, slot: u32) {
        let words = self.records.words(slot);
        let by_place = hash_of_place(&self.hasher, self.records.parent(slot), words);
        let places = match self.records.is_current(slot) {
            true => &mut self.current,
            false => &mut self.displaced,
        };
        remove(places, by_place, slot);
    }
}

fn remove(table: &mut HashTable<u32>, hash: u64, slot: u32) {
    if let Ok(entry) = table.find_entry(hash, |other| *other == slot) {
        entry.remove();
    }
}

/// Of a directory and the words of a name. Names that differ in zeros at the end have the same.
fn hash_of_place(
    hasher: &DefaultHashBuilder,
    parent: u64,
    words: impl Iterator<Item = u64>,
) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(parent);
    words.for_each(|word| hasher.write_u64(word));
    hasher.finish()
}
