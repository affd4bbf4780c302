//! What a majority holds survives.
//!
//! The lineage of a node is the list of the messages that made its data. It grows with each message applied, and becomes
//! the leader's with a commit. Then a message that a majority of the nodes holds may only give way to a lineage with a
//! message that no majority holds: whoever leads by the rule of the highest version has then applied something that the
//! others never received, or had just queued when it went away. Corosync's agreed order and the rule are given, so nobody
//! can prevent that; everything else would be an acknowledged write lost to a defect.
//!
//! A node whose disk was emptied holds nothing any more. The lineage of a C member that has strayed says nothing about its
//! data, so what it leads to is not judged.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use pmxcfs_dfsm::core::MemberId;

use super::Strays;
use crate::sim::{cluster::Cluster, group::Fed, probe::Observation};

/// Sender and count of a message.
type Name = (MemberId, u64);

/// The messages that made a node's data, with the version after each.
#[derive(Debug, Clone, Default)]
struct Lineage {
    messages: Rc<Vec<(Name, u64)>>,
    /// A C daemon has gone its own way.
    is_odd: bool,
}

#[derive(Default)]
pub(crate) struct Lineages {
    by_node: HashMap<usize, Lineage>,
    announced: HashMap<u64, Lineage>,
    /// Messages that gave way to others although a majority held them, as they may.
    pub(crate) given_way_count: usize,
}

impl Lineage {
    fn has(&self, name: Name) -> bool {
        self.messages.iter().any(|(known, _)| *known == name)
    }

    /// What is in this one and not in the other.
    fn without(&self, other: &Self) -> Vec<Name> {
        let known: BTreeSet<Name> = other.messages.iter().map(|(name, _)| *name).collect();
        let names = self.messages.iter().map(|(name, _)| *name);
        names.filter(|name| !known.contains(name)).collect()
    }
}

impl Lineages {
    pub(super) fn emptied(&mut self, node: usize) {
        self.by_node.remove(&node);
    }

    /// A process starts with what the disk has, which may lack the last changes.
    pub(super) fn started(&mut self, node: usize, cluster: &Cluster) {
        let version = cluster.tree(node).map_or(0, |tree| tree.root().version);
        let lineage = self.by_node.entry(node).or_default();
        Rc::make_mut(&mut lineage.messages).retain(|(_, after)| *after <= version);
    }

    pub(super) fn look(
        &mut self,
        fed: &Fed,
        observation: &Observation,
        strays: &Strays,
        cluster: &Cluster,
    ) {
        match observation {
            Observation::Delivered {
                sender,
                count,
                is_change: true,
            } => self.grow(fed, (*sender, *count), strays, cluster),
            Observation::Announced { state } => {
                let mut lineage = self.by_node.entry(fed.node).or_default().clone();
                lineage.is_odd |= strays.has_strayed(fed.node);
                self.announced.insert(*state, lineage);
            }
            Observation::Committed { state } => self.replace(fed.node, *state, cluster.count()),
            Observation::Strayed { .. } => {
                self.by_node.entry(fed.node).or_default().is_odd = true;
            }
            _ => {}
        }
    }

    fn grow(&mut self, fed: &Fed, name: Name, strays: &Strays, cluster: &Cluster) {
        let version = cluster.tree(fed.node).map_or(0, |tree| tree.root().version);
        let lineage = self.by_node.entry(fed.node).or_default();
        assert!(
            !lineage.has(name) || strays.is_peer(name.0) || lineage.is_odd,
            "lineage: {} applied message {} of {} for the second time",
            fed.id,
            name.1,
            name.0
        );
        Rc::make_mut(&mut lineage.messages).push((name, version));
    }

    fn replace(&mut self, node: usize, state: u64, node_count: usize) {
        let new = self.announced.get(&state).cloned().unwrap_or_default();
        let old = self.by_node.get(&node).cloned().unwrap_or_default();
        if !new.is_odd && !old.is_odd {
            let lost = old.without(&new);
            let is_majority = |name: &Name| {
                let holders = self.by_node.values().filter(|lineage| lineage.has(*name));
                holders.count() * 2 > node_count
            };
            let is_excused = new.without(&old).iter().any(|name| !is_majority(name));
            let held: Vec<&Name> = lost.iter().filter(|name| is_majority(name)).collect();
            assert!(
                held.is_empty() || is_excused,
                "lineage: node {} gives up what a majority holds: {held:?}",
                node + 1
            );
            self.given_way_count += held.len();
        }
        self.by_node.insert(node, new);
    }
}
