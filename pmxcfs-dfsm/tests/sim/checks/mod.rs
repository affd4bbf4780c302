//! What must hold, whatever happens. Each check stands for invariants of the protocol and looks at every event.
//!
//! C daemons break some of them by themselves. What is allowed to them is said where it is allowed, and is as narrow as
//! the defect: a C member has *strayed* from the moment at which it runs messages in another order than the synced
//! members, or runs again what they have run, until it has taken part in the next exchange. Nothing of this is allowed to
//! a member under test, and no C member may stray because of one (`silence`).

mod answers;
mod equality;
mod exchange;
mod kept;
mod lineage;
mod order;
mod silence;
mod soft;
mod waiting;

use std::collections::HashMap;

use pmxcfs_dfsm::core::{MemberId, Mode};

use super::{cluster::Cluster, group::Fed, probe::Observation, step::Step};

pub(crate) use equality::{fingerprint, listing};

/// All checks of a story.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) strays: Strays,
    pub(crate) answers: answers::Answers,
    equality: equality::Equality,
    exchange: exchange::Exchanges,
    pub(crate) kept: kept::Kept,
    pub(crate) lineage: lineage::Lineages,
    order: order::Order,
    silence: silence::Silence,
    soft: soft::Softness,
    waiting: waiting::Waiting,
    pub(crate) counts: Counts,
}

/// How often things happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) exchanges: usize,
    pub(crate) updates: usize,
    pub(crate) commits: usize,
    pub(crate) leaves: usize,
    pub(crate) failures: usize,
}

impl Counts {
    fn look(&mut self, fed: &Fed) {
        let has = |wanted: fn(&Observation) -> bool| fed.observations.iter().any(wanted);
        let is_new = |mode| usize::from(fed.after == mode && fed.before != mode);
        self.exchanges += usize::from(has(|seen| matches!(seen, Observation::Exchanged { .. })));
        self.commits += usize::from(has(|seen| matches!(seen, Observation::Committed { .. })));
        self.updates += is_new(Mode::Update);
        self.leaves += is_new(Mode::Leave);
        self.failures += is_new(Mode::Error);
    }
}

/// Nodes whose data may differ from that of the synced members, and whose fault that is not.
#[derive(Default)]
pub(crate) struct Strays {
    by_node: HashMap<usize, &'static str>,
    /// Which processes are C daemons.
    pub(crate) peers: HashMap<MemberId, bool>,
    pub(crate) stray_count: usize,
}

impl Strays {
    pub(crate) fn has_strayed(&self, node: usize) -> bool {
        self.by_node.contains_key(&node)
    }

    pub(crate) fn is_peer(&self, id: MemberId) -> bool {
        self.peers.get(&id).copied().unwrap_or(false)
    }

    fn note(&mut self, node: usize, is_ours: bool, observation: &Observation) {
        match observation {
            Observation::Strayed { why } => {
                assert!(!is_ours, "node {} strayed: {why}", node + 1);
                self.stray_count += 1;
                self.by_node.insert(node, why);
            }
            Observation::Exchanged { .. } | Observation::Committed { .. } => {
                self.by_node.remove(&node);
            }
            _ => {}
        }
    }
}

impl Checks {
    /// What the story does on purpose.
    pub(crate) fn before(&mut self, step: &Step, cluster: &Cluster) {
        if let Step::Corrupt { node, .. } = step
            && cluster.mode(*node) == Some(Mode::Synced)
        {
            self.strays.by_node.insert(*node, "was corrupted");
            self.lineage.mark_odd(*node);
        }
    }

    /// Looks at what has happened since the last time.
    pub(crate) fn look(&mut self, cluster: &mut Cluster) {
        for node in std::mem::take(&mut cluster.emptied) {
            self.lineage.emptied(node);
            self.strays.by_node.remove(&node);
        }
        for node in 0..cluster.count() {
            if let Some(member) = &cluster.database.members[node] {
                let is_peer = !member.replica.is_ours();
                if self.strays.peers.insert(member.id, is_peer).is_none() {
                    self.lineage.started(node, cluster);
                }
            }
        }
        for ordered in std::mem::take(&mut cluster.database.ordered) {
            self.exchange.ordered(&ordered);
        }
        cluster.status.ordered.clear();
        let fed = std::mem::take(&mut cluster.database.fed);
        for fed in &fed {
            self.counts.look(fed);
            self.order.look(fed, &self.strays);
            self.silence.look(fed, &self.strays);
            self.exchange.look(fed, false);
            self.waiting.look(fed, cluster);
            for observation in &fed.observations {
                self.strays.note(fed.node, fed.is_ours, observation);
                self.lineage.look(fed, observation, &self.strays, cluster);
            }
        }
        for fed in &fed {
            self.equality.look(fed, &self.strays, cluster);
        }
        for answered in std::mem::take(&mut cluster.answered) {
            self.answers.look(&answered, &self.strays, cluster);
            self.kept.note(&answered, &self.strays, cluster);
        }
        self.kept.look(cluster);
        let fed = std::mem::take(&mut cluster.status.fed);
        for fed in &fed {
            self.exchange.look(fed, true);
            self.waiting.look(fed, cluster);
            self.soft.look(fed, cluster);
        }
    }

    /// When all is healed, and no exchange has repeated everything since then.
    pub(crate) fn before_last_exchange(&self, cluster: &Cluster) {
        self.soft.demand_keys(cluster);
    }

    /// When all is healed: everybody holds the same, and nothing that was refused is in it.
    pub(crate) fn end(&mut self, cluster: &Cluster) {
        self.answers.end(cluster);
        self.soft.end(cluster);
    }
}
