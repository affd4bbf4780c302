//! The keys that nodes set for each other: a table for each node, each key with a value and a version.
//!
//! Clients keep values as long as their version does not change, and only compare for inequality. The C daemon starts a
//! key that was removed and set again at version 0, so clients can keep a stale value; here such a key goes on from its
//! last version. A key that was never there starts at 0, as peers and clients know it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pmxcfs_api_types::NodeId;
use pmxcfs_api_types::limits::MAX_STATUS_VALUE_SIZE;

/// Keys of one node. Daemons of the stack set a dozen.
const MAX_KEY_COUNT: usize = 1024;

/// Bytes of keys and values of one node.
const MAX_TABLE_SIZE: usize = 8 * 1024 * 1024;

/// Removed keys of one node whose last version is remembered one by one.
const MAX_FLOOR_COUNT: usize = 1024;

/// Why a value of a node was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The sender is not in the node list, or there is no node list.
    #[error("status update of node {0}, which is not in the node list")]
    UnknownSender(NodeId),
    /// An `rrd/` or `nodeip` value is empty, too long, or does not end with a NUL.
    #[error("malformed status value")]
    BadValue,
    /// The table of the node, or that of RRD values, is full, or the value is too large.
    #[error("too many or too large status values")]
    LimitReached,
}

#[derive(Debug, Clone)]
struct Slot {
    value: Bytes,
    version: u32,
    /// Set since the last exchange began.
    is_repeated: bool,
}

/// The keys of one node.
#[derive(Debug, Clone, Default)]
pub struct KeyTable {
    slots: BTreeMap<Bytes, Slot>,
    size: usize,
    /// Versions at which removed keys start again.
    floors: HashMap<Bytes, u32>,
    /// Version at which keys start that have no floor of their own.
    common_floor: u32,
}

impl KeyTable {
    /// Sets a key, or removes it if the value is empty. Every set counts as a change, also with the same value.
    ///
    /// # Errors
    /// If the table is full; the key then keeps its former value.
    pub fn set(&mut self, key: &[u8], value: &Bytes) -> Result<(), UpdateError> {
        if value.is_empty() {
            self.remove(key);
            return Ok(());
        }
        let former = self.slots.get(key).map(|slot| key.len() + slot.value.len());
        let size = self.size - former.unwrap_or(0) + key.len() + value.len();
        let is_full = former.is_none() && self.slots.len() >= MAX_KEY_COUNT;
        if is_full || size > MAX_TABLE_SIZE || value.len() > MAX_STATUS_VALUE_SIZE {
            return Err(UpdateError::LimitReached);
        }
        self.size = size;
        if let Some(slot) = self.slots.get_mut(key) {
            slot.value = value.clone();
            slot.version = slot.version.wrapping_add(1);
            slot.is_repeated = true;
            return Ok(());
        }
        let version = self.floors.remove(key).unwrap_or(self.common_floor);
        let slot = Slot {
            value: value.clone(),
            version,
            is_repeated: true,
        };
        self.slots.insert(Bytes::copy_from_slice(key), slot);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) {
        let Some((key, slot)) = self.slots.remove_entry(key) else {
            return;
        };
        self.size -= key.len() + slot.value.len();
        if self.floors.len() >= MAX_FLOOR_COUNT {
            let highest = self.floors.drain().map(|(_, floor)| floor).max();
            self.common_floor = self.common_floor.max(highest.unwrap_or(0));
        }
        self.floors.insert(key, slot.version.wrapping_add(1));
    }

    /// Value of a key.
    pub fn value(&self, key: &[u8]) -> Option<&Bytes> {
        Some(&self.slots.get(key)?.value)
    }

    /// Keys and their versions, in order of the keys' bytes.
    pub fn versions(&self) -> impl Iterator<Item = (&Bytes, u32)> {
        self.slots.iter().map(|(key, slot)| (key, slot.version))
    }

    /// Keys and their values, in order of the keys' bytes.
    pub fn values(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.value))
    }
}

/// Key tables of all nodes.
#[derive(Debug, Clone, Default)]
pub struct KeyStore {
    /// The table of this node.
    pub own: KeyTable,
    peers: BTreeMap<NodeId, KeyTable>,
    /// Grows with every change.
    pub generation: u64,
}

impl KeyStore {
    /// The table of another node, if it ever set a key.
    pub fn peer(&self, node: NodeId) -> Option<&KeyTable> {
        self.peers.get(&node)
    }

    /// Tables of other nodes, in order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &KeyTable)> {
        self.peers.iter().map(|(node, table)| (*node, table))
    }

    /// Sets or removes a key of this node.
    ///
    /// # Errors
    /// As [`KeyTable::set`].
    pub fn set_own(&mut self, key: &[u8], value: &Bytes) -> Result<(), UpdateError> {
        self.generation += 1;
        self.own.set(key, value)
    }

    /// Sets or removes a key of another node.
    ///
    /// # Errors
    /// As [`KeyTable::set`].
    pub fn set_peer(&mut self, node: NodeId, key: &[u8], value: &Bytes) -> Result<(), UpdateError> {
        self.generation += 1;
        self.peers.entry(node).or_default().set(key, value)
    }

    /// Drops the tables of nodes that are not in the list any more.
    pub fn retain(&mut self, is_listed: impl Fn(NodeId) -> bool) {
        self.generation += 1;
        self.peers.retain(|node, _| is_listed(*node));
    }

    /// An exchange is over: from now on every member repeats all of its keys.
    pub fn expect_repetition(&mut self) {
        for slot in self
            .peers
            .values_mut()
            .flat_map(|table| table.slots.values_mut())
        {
            slot.is_repeated = false;
        }
    }

    /// A member has repeated all of its keys. What it did not repeat it has removed, or had before it was restarted.
    pub fn finish_repetition(&mut self, node: NodeId) {
        let Some(table) = self.peers.get_mut(&node) else {
            return;
        };
        let gone: Vec<Bytes> = table
            .slots
            .iter()
            .filter(|(_, slot)| !slot.is_repeated)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.generation += 1;
            table.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(table: &KeyTable) -> Vec<(&[u8], u32)> {
        table
            .versions()
            .map(|(key, version)| (&key[..], version))
            .collect()
    }

    #[test]
    fn versions_never_return_to_one_that_was_shown() {
        let mut table = KeyTable::default();
        let value = Bytes::from_static(b"v\0");
        table.set(b"k", &value).unwrap();
        assert_eq!(versions(&table), [(&b"k"[..], 0)]);
        table.set(b"k", &value).unwrap();
        table.set(b"k", &Bytes::new()).unwrap();
        assert_eq!(versions(&table), []);
        table.set(b"k", &value).unwrap();
        table.set(b"other", &value).unwrap();
        assert_eq!(versions(&table), [(&b"k"[..], 2), (b"other", 0)]);
    }

    #[test]
    fn floors_survive_more_removed_keys_than_are_remembered() {
        let mut table = KeyTable::default();
        let value = Bytes::from_static(b"v");
        for _ in 0..5 {
            table.set(b"k", &value).unwrap();
        }
        table.set(b"k", &Bytes::new()).unwrap();
        for number in 0..MAX_FLOOR_COUNT + 10 {
            let key = number.to_string();
            table.set(key.as_bytes(), &value).unwrap();
            table.set(key.as_bytes(), &Bytes::new()).unwrap();
        }
        assert!(table.floors.len() <= MAX_FLOOR_COUNT);
        table.set(b"k", &value).unwrap();
        assert!(versions(&table)[0].1 >= 5);
    }

    #[test]
    fn a_full_table_refuses_new_keys_and_still_takes_known_ones() {
        let mut table = KeyTable::default();
        let value = Bytes::from_static(b"v");
        for number in 0..MAX_KEY_COUNT {
            table.set(number.to_string().as_bytes(), &value).unwrap();
        }
        assert_eq!(table.set(b"new", &value), Err(UpdateError::LimitReached));
        table.set(b"0", &value).unwrap();
        table.set(b"0", &Bytes::new()).unwrap();
        table.set(b"new", &value).unwrap();

        let mut table = KeyTable::default();
        let large = Bytes::from(vec![b'x'; MAX_STATUS_VALUE_SIZE]);
        let fitting = MAX_TABLE_SIZE / (large.len() + 3);
        for number in 100..100 + fitting {
            table.set(number.to_string().as_bytes(), &large).unwrap();
        }
        assert_eq!(table.set(b"999", &large), Err(UpdateError::LimitReached));
        assert_eq!(table.value(b"999"), None);
        table.set(b"100", &large).unwrap();
        table.set(b"100", &Bytes::new()).unwrap();
        table.set(b"999", &large).unwrap();
    }

    #[test]
    fn an_empty_key_is_a_key() {
        let mut table = KeyTable::default();
        table.set(b"", &Bytes::from_static(b"v")).unwrap();
        table.set(b"", &Bytes::from_static(b"w")).unwrap();
        assert_eq!(table.value(b"").unwrap(), "w");
        assert_eq!(table.size, 1);
        table.set(b"", &Bytes::new()).unwrap();
        assert_eq!((table.value(b""), table.size), (None, 0));
    }

    #[test]
    fn what_a_member_does_not_repeat_is_gone() {
        let node = NodeId(2);
        let value = Bytes::from_static(b"v");
        let mut store = KeyStore::default();
        store.set_peer(node, b"gone", &value).unwrap();
        store.set_peer(node, b"stays", &value).unwrap();
        store.set_peer(NodeId(3), b"late", &value).unwrap();
        store.finish_repetition(node);
        assert_eq!(store.peer(node).unwrap().versions().count(), 2);

        store.expect_repetition();
        store.set_peer(node, b"stays", &value).unwrap();
        let generation = store.generation;
        store.finish_repetition(node);
        assert!(store.generation > generation);
        assert_eq!(versions(store.peer(node).unwrap()), [(&b"stays"[..], 1)]);
        assert_eq!(store.peer(NodeId(3)).unwrap().versions().count(), 1);
    }
}
