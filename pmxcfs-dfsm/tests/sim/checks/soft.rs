//! The status group: keys of one sender are heard in its order, and when all is healed everybody knows everything.
//!
//! A sender that cannot know whether others have applied its messages sends them again, all in their order. So a receiver may hear
//! values once more that it has heard before, and the newest one last.
//!
//! Allowed to C daemons: a key that its node has removed, or had before its daemon was restarted, stays with a C receiver.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use pmxcfs_dfsm::core::MemberId;

use crate::sim::{cluster::Cluster, group::Fed};

#[derive(Default)]
pub(super) struct Softness {
    /// Numbers heard, by receiver, sender and key.
    heard: HashMap<(MemberId, MemberId, Bytes), BTreeSet<u64>>,
}

/// Values of this simulation are numbers.
fn number(value: &Bytes) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Softness {
    pub(super) fn look(&mut self, fed: &Fed, cluster: &mut Cluster) {
        let Some(soft) = cluster.soft_mut(fed.node) else {
            return;
        };
        for (sender, key, value) in std::mem::take(&mut soft.heard) {
            let Some(number) = number(&value) else {
                continue;
            };
            let name = (fed.id, sender, key);
            let heard = self.heard.entry(name).or_default();
            let last = heard.last().copied().unwrap_or(0);
            assert!(
                number >= last || heard.contains(&number),
                "soft: {} heard {number} of {sender} for the first time after {last}",
                fed.id
            );
            heard.insert(number);
        }
    }

    /// Everybody knows the keys of everybody. Without an exchange C senders may owe some that corosync did not take.
    pub(super) fn demand_keys(&self, cluster: &Cluster) {
        let count = cluster.count();
        for other in (0..count).filter(|other| cluster.is_ours[*other]) {
            for node in (0..count).filter(|node| *node != other) {
                compare(cluster, node, other);
            }
        }
    }

    pub(super) fn end(&self, cluster: &Cluster) {
        for node in 0..cluster.count() {
            for other in (0..cluster.count()).filter(|other| *other != node) {
                compare(cluster, node, other);
            }
        }
        let count = cluster.count();
        let mut logs: Option<BTreeSet<Vec<u8>>> = None;
        for node in 0..count {
            let Some(soft) = cluster.soft(node) else {
                return;
            };
            assert_eq!(soft.members.len(), count, "soft: members on {}", node + 1);
            let logged = soft.logged();
            let expected = logs.get_or_insert_with(|| logged.clone());
            assert_eq!(*expected, logged, "soft: cluster log of {}", node + 1);
        }
    }
}

fn compare(cluster: &Cluster, node: usize, other: usize) {
    let (Some(soft), Some(theirs)) = (cluster.soft(node), cluster.soft(other)) else {
        return;
    };
    let id = other as u32 + 1;
    assert_eq!(
        soft.addresses.get(&id),
        Some(&theirs.address()),
        "soft: address of {id} on {}",
        node + 1
    );
    let mut known = soft.peers.get(&id).cloned().unwrap_or_default();
    if !cluster.is_ours[node] {
        known.retain(|key, _| theirs.own.contains_key(key));
    }
    assert_eq!(known, theirs.own, "soft: keys of {id} on {}", node + 1);
}
