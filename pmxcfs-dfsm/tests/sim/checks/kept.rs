//! A node keeps a change that it has acknowledged as long as its process and the network stay as they are.
//!
//! A change may be lost when its node falls out of the ring after it was sent, see `lineage`, and when the node does not know yet
//! that its side has no quorum. Without that, an exchange takes back an acknowledged change only if a daemon with more changes
//! joins late: later than the others wait for it. Clusters with C daemons are not judged, since those do not wait.

use bytes::Bytes;
use pmxcfs_dfsm::core::{MemberId, Mode};
use pmxcfs_memdb::Operation;

use super::Strays;
use crate::sim::cluster::{Answered, Cluster};

/// How long a member that gets quorum waits for the daemons of its side.
const WAIT_MS: u64 = 3_000;

/// A directory that was made, and never is removed.
struct Acknowledged {
    path: Bytes,
    node: usize,
    member: MemberId,
    regroup_count: usize,
}

#[derive(Default)]
pub(crate) struct Kept {
    acknowledged: Vec<Acknowledged>,
    pub(crate) judged_count: usize,
}

impl Kept {
    pub(super) fn note(&mut self, answered: &Answered, strays: &Strays, cluster: &Cluster) {
        let Operation::Mkdir { path } = &answered.asked.operation else {
            return;
        };
        let network = &cluster.network;
        let node = answered.asked.node;
        let host = &network.hosts[node];
        let knows = host.quorum.is_quorate && host.quorum_told == host.quorum;
        let is_same = answered.asked.regroup_count == network.regroup_count;
        let is_quick = network.now_ms < network.regrouped_ms + WAIT_MS;
        let cpg = &cluster.database.cpg;
        let is_joined = |node| cpg.connection(node).is_some_and(|found| found.is_joined);
        let waits = is_quick || network.seen_by(node).into_iter().all(is_joined);
        let is_judged = !strays.peers.values().any(|is_peer| *is_peer);
        let must_stay = is_judged && knows && is_same && waits;
        if path.starts_with(b"once") && answered.result.is_ok() && must_stay {
            self.acknowledged.push(Acknowledged {
                path: path.clone(),
                node,
                member: answered.asked.member,
                regroup_count: network.regroup_count,
            });
            self.judged_count += 1;
        }
    }

    pub(super) fn look(&mut self, cluster: &Cluster) {
        self.acknowledged.retain(|change| {
            let member = cluster.database.members[change.node].as_ref();
            let is_same = member.is_some_and(|member| member.id == change.member);
            is_same && change.regroup_count == cluster.network.regroup_count
        });
        for change in &self.acknowledged {
            let is_there = |tree: &pmxcfs_memdb::Tree| tree.lookup(&change.path).is_some();
            assert!(
                cluster.mode(change.node) != Some(Mode::Synced)
                    || cluster.tree(change.node).is_some_and(is_there),
                "kept: {} made {} and has lost it",
                change.member,
                String::from_utf8_lossy(&change.path)
            );
        }
    }
}
