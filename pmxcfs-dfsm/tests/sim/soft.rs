//! The soft state of a daemon of the simulation: keys of all nodes, and the real cluster log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pmxcfs_api_types::NodeId;
use pmxcfs_dfsm::{core::MemberId, status::StatusStore};
use pmxcfs_logger::{ClusterLog, Entry, Origin, Submission};

/// Keys and values of one node.
pub(crate) type Keys = BTreeMap<Bytes, Bytes>;

/// Key under which a node tells its address.
const ADDRESS_KEY: &[u8] = b"nodeip";

#[derive(Debug)]
pub(crate) struct Soft {
    node: usize,
    pub(crate) log: ClusterLog,
    pub(crate) own: Keys,
    pub(crate) peers: BTreeMap<u32, Keys>,
    pub(crate) addresses: BTreeMap<u32, Bytes>,
    pub(crate) members: Vec<MemberId>,
    /// Keys that each member has told since the last exchange. C daemons do not know what to do with that.
    repeated: Option<BTreeMap<u32, BTreeSet<Bytes>>>,
    /// What was set, in order, until somebody takes it.
    pub(crate) heard: Vec<(MemberId, Bytes, Bytes)>,
}

impl Soft {
    pub(crate) fn new(node: usize, time_secs: u32, is_ours: bool) -> Self {
        let mut log = ClusterLog::new(format!("node{}", node + 1).as_bytes());
        log.log_start(time_secs, 1);
        Self {
            node,
            log,
            own: Keys::new(),
            peers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            members: Vec::new(),
            repeated: is_ours.then(BTreeMap::new),
            heard: Vec::new(),
        }
    }

    /// A client of this node sets a key.
    pub(crate) fn set_own(&mut self, key: &Bytes, value: &Bytes) {
        set(&mut self.own, key, value);
    }

    /// A client of this node logs a text; the entry to send.
    pub(crate) fn log_own(&mut self, time_secs: u32, text: &str) -> Bytes {
        let submission = Submission {
            priority: 6,
            pid: 7,
            ident: b"root@pam",
            tag: b"sim",
            message: text.as_bytes(),
        };
        let entry = self.log.log(time_secs, &submission);
        Bytes::copy_from_slice(entry.expect("the priority is low enough").as_bytes())
    }

    /// What identifies the entries of the log, in no order.
    pub(crate) fn logged(&self) -> BTreeSet<Vec<u8>> {
        let steps = self.log.ring().walk();
        steps.map(|step| step.entry.message().to_vec()).collect()
    }

    pub(crate) fn add_log(&mut self, entry: &Bytes, origin: Option<Origin>) {
        let entry = Entry::decode(entry).expect("nobody sends malformed entries here");
        self.log.receive(&entry, origin);
    }

    /// Another node told a key.
    pub(crate) fn set_peer(&mut self, sender: MemberId, key: &Bytes, value: &Bytes) {
        self.heard.push((sender, key.clone(), value.clone()));
        if key == ADDRESS_KEY {
            self.addresses.insert(sender.node, value.clone());
            if let Some(repeated) = &self.repeated
                && let (Some(told), Some(keys)) =
                    (repeated.get(&sender.node), self.peers.get_mut(&sender.node))
            {
                keys.retain(|key, _| told.contains(key));
            }
            return;
        }
        set(self.peers.entry(sender.node).or_default(), key, value);
        if let Some(repeated) = &mut self.repeated
            && let Some(told) = repeated.get_mut(&sender.node)
        {
            told.insert(key.clone());
        }
    }

    pub(crate) fn ring(&mut self) -> Bytes {
        self.log.state().into()
    }

    pub(crate) fn merge(&mut self, rings: &[(MemberId, Bytes)], own: usize) {
        let states: Vec<Option<&[u8]>> = rings.iter().map(|(_, ring)| Some(&ring[..])).collect();
        let report = self.log.merge(&states, own);
        assert_eq!(report.rejected, []);
        if let Some(repeated) = &mut self.repeated {
            *repeated = rings
                .iter()
                .map(|(member, _)| (member.node, BTreeSet::new()))
                .collect();
        }
    }

    pub(crate) fn keys(&self) -> Vec<(Bytes, Bytes)> {
        let keys = self.own.iter();
        keys.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(crate) fn address(&self) -> Bytes {
        Bytes::from(format!("10.0.0.{}\0", self.node + 1))
    }
}

fn set(keys: &mut Keys, key: &Bytes, value: &Bytes) {
    if value.is_empty() {
        keys.remove(key);
    } else {
        keys.insert(key.clone(), value.clone());
    }
}

impl StatusStore for Soft {
    fn set(&mut self, sender: MemberId, key: &Bytes, value: &Bytes) {
        self.set_peer(sender, key, value);
    }

    fn log(&mut self, sender: MemberId, entry: &Bytes) {
        let origin = Origin {
            node: NodeId(sender.node),
            pid: sender.pid,
        };
        self.add_log(entry, Some(origin));
    }

    fn log_ring(&mut self) -> Bytes {
        self.ring()
    }

    fn merge_logs(&mut self, rings: &[(MemberId, Bytes)], own: usize) {
        self.merge(rings, own);
    }

    fn set_members(&mut self, members: &[MemberId]) {
        self.members = members.to_vec();
    }

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        self.keys()
    }

    fn own_address(&self) -> Bytes {
        self.address()
    }

    fn disconnected(&mut self) {}
}
