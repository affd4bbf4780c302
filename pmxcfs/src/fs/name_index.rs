//! Finds the records of names: by node id, and by directory and name.
//!
//! The records are in memory that outlives the process; the index is not, and holds nothing but their slots.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::tables::{NameRecords, NewName};

/// Records, and where they are.
#[derive(Debug)]
pub(super) struct NameIndex {
    records: NameRecords,
    by_id: HashTable<u32>,
    /// Those that are the one of their name.
    current: HashTable<u32>,
    displaced: HashTable<u32>,
    hasher: RandomState,
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
            hasher: RandomState::new(),
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

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The record of a node id.
    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let found = self.by_id.find(hash, |slot| self.records.id(*slot) == id);
        found.copied()
    }

    /// The record that is the one of a name.
    pub(super) fn current(&self, parent: u64, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, name));
        let found = self
            .current
            .find(hash, |slot| self.is_at(*slot, parent, name));
        found.copied()
    }

    /// All records of a name.
    pub(super) fn of_place(&self, parent: u64, name: &[u8]) -> Vec<u32> {
        let hash = self.hasher.hash_one((parent, name));
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
        self.leave(slot);
        self.records.remove(slot);
    }

    /// A record is not the one of its name any more.
    pub(super) fn displace(&mut self, slot: u32) {
        self.leave(slot);
        self.records.displace(slot);
        self.enter(slot);
    }

    /// Finds a record at another place, and in another slot, from now on. The former one is to be [settled](Self::settle).
    /// `None` if there is no room; it stays where it is then.
    pub(super) fn rename(
        &mut self,
        slot: u32,
        parent: u64,
        name: &[u8],
        version: u64,
    ) -> Option<u32> {
        let follower = self.records.add_follower(slot, parent, name, version)?;
        self.leave(slot);
        self.enter(follower);
        Some(follower)
    }

    /// Removes a record that has a follower.
    pub(super) fn settle(&mut self, slot: u32) {
        self.records.remove(slot);
    }

    fn enter(&mut self, slot: u32) {
        let (records, hasher) = (&self.records, &self.hasher);
        let by_id = |slot: &u32| hasher.hash_one(records.id(*slot));
        let by_place = |slot: &u32| hash_of_place(records, hasher, *slot);
        self.by_id.insert_unique(by_id(&slot), slot, by_id);
        let places = match records.is_current(slot) {
            true => &mut self.current,
            false => &mut self.displaced,
        };
        places.insert_unique(by_place(&slot), slot, by_place);
    }

    fn leave(&mut self, slot: u32) {
        let by_id = self.hasher.hash_one(self.records.id(slot));
        let by_place = hash_of_place(&self.records, &self.hasher, slot);
        let places = match self.records.is_current(slot) {
            true => &mut self.current,
            false => &mut self.displaced,
        };
        for (table, hash) in [(&mut self.by_id, by_id), (places, by_place)] {
            if let Ok(entry) = table.find_entry(hash, |other| *other == slot) {
                entry.remove();
            }
        }
    }
}

fn hash_of_place(records: &NameRecords, hasher: &RandomState, slot: u32) -> u64 {
    hasher.hash_one((records.parent(slot), &records.name(slot)[..]))
}
