//! Which entries have been seen already.
//!
//! An entry reaches a member twice when it was on its way as a LOG message while the sender's STATE, which has it too,
//! was merged. C daemons tell by time: they keep time and uid of the last accepted entry of each node and drop what is
//! not newer. So they drop everything from a node whose clock went back, and the first entries of a daemon that was
//! restarted within a second.
//!
//! Here an entry that the C rule accepts is accepted. One that it would drop is accepted as well if it is provably new:
//! the sending process numbers its entries, so a uid above the last one received from the same process is no
//! repetition, unless a merge has brought the entry, and then it is in the ring. Peers that drop the entry get it with
//! the next merge. An entry of unknown origin goes by the C rule alone.

use std::collections::{HashMap, HashSet};

use pmxcfs_api_types::NodeId;

use crate::entry::EntryView;

/// More records than a ring can have entries; beyond that, those of nodes without an entry in the ring are dropped.
const MAX_RECORD_COUNT: usize = 4096;

/// The process that sent an entry, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its node.
    pub node: NodeId,
    /// Its process id, as the group knows it.
    pub pid: u32,
}

/// Time and uid of the last accepted entry of each node, by digest of the node's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct DuplicateTable {
    last: HashMap<u64, (u32, u32)>,
}

impl DuplicateTable {
    /// The rule of C daemons: nothing known of the node, a newer time, or the same time and a larger uid.
    pub(crate) fn is_newer(&self, entry: &EntryView<'_>) -> bool {
        self.last
            .get(&entry.node_digest)
            .is_none_or(|last| (entry.time, entry.uid) > *last)
    }

    /// Notes an accepted entry.
    pub(crate) fn record(&mut self, entry: &EntryView<'_>) {
        if self.is_newer(entry) {
            self.last.insert(entry.node_digest, (entry.time, entry.uid));
        }
    }

    /// Keeps the table small although node names come from peers.
    /// `present` are the entries of the ring.
    pub(crate) fn limit<'a>(&mut self, present: impl Iterator<Item = EntryView<'a>>) {
        if self.last.len() > MAX_RECORD_COUNT {
            let present: HashSet<u64> = present.map(|entry| entry.node_digest).collect();
            self.last.retain(|digest, _| present.contains(digest));
        }
    }
}

/// Last uid received from the process of each node that sent last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetimes {
    last: HashMap<NodeId, (u32, u32)>,
}

impl Lifetimes {
    /// Whether this process has sent this or a later entry before.
    pub(crate) fn has_passed(&self, origin: Origin, uid: u32) -> bool {
        self.last
            .get(&origin.node)
            .is_some_and(|(pid, last)| *pid == origin.pid && uid <= *last)
    }

    pub(crate) fn record(&mut self, origin: Origin, uid: u32) {
        let last = self.last.entry(origin.node).or_insert((origin.pid, uid));
        *last = match *last {
            (pid, last) if pid == origin.pid => (pid, last.max(uid)),
            _ => (origin.pid, uid),
        };
    }
}
