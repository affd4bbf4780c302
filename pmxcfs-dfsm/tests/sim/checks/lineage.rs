//! What a majority holds survives.
//!
//! The lineage of a node is the list of the messages that made its data. It grows with each message applied, and becomes
//! the leader's with a commit. Then a message that a majority of the nodes holds may only give way to a lineage with a
//! message that no majority holds: whoever leads by the rule of the highest version has then applied something that the
//! others never received, or had just queued when it went away. Corosync's agreed order and the rule are given, so nobody
//! can prevent that; everything else would be an acknowledged write lost to a defect.
//!
//! A message that was applied on top of other data is another message here: it stands for all that was done up to it.
//!
//! A node whose disk was emptied holds nothing any more. The lineage of a C member that has strayed says nothing about its
//! data, so what it leads to is not judged.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use pmxcfs_dfsm::core::MemberId;

use super::Strays;
use crate::sim::{cluster::Cluster, group::Fed, probe::Observation};

/// Sender and count of a message.
type Name = (MemberId, u64);

/// One message applied, on top of all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    name: Name,
    /// Stands for the message and all before it.
    chain: u64,
    /// Version of the data after it.
    version: u64,
}

/// The messages that made a node's data.
#[derive(Debug, Clone, Default)]
struct Lineage {
    links: Rc<Vec<Link>>,
    /// The data are not what the messages make.
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
    fn has_message(&self, name: Name) -> bool {
        self.links.iter().any(|link| link.name == name)
    }

    fn has(&self, chain: u64) -> bool {
        self.links.iter().any(|link| link.chain == chain)
    }

    fn grow(&mut self, name: Name, version: u64) {
        let mut hasher = DefaultHasher::new();
        let last = self.links.last().map_or(0, |link| link.chain);
        (last, name).hash(&mut hasher);
        let chain = hasher.finish();
        Rc::make_mut(&mut self.links).push(Link {
            name,
            chain,
            version,
        });
    }

    /// What is in this one and not in the other.
    fn without(&self, other: &Self) -> Vec<Link> {
        let known: BTreeSet<u64> = other.links.iter().map(|link| link.chain).collect();
        let links = self.links.iter().copied();
        links.filter(|link| !known.contains(&link.chain)).collect()
    }
}

impl Lineages {
    pub(super) fn emptied(&mut self, node: usize) {
        self.by_node.remove(&node);
    }

    /// The data of a node are not what its messages made.
    pub(super) fn mark_odd(&mut self, node: usize) {
        self.by_node.entry(node).or_default().is_odd = true;
    }

    /// A process starts with what the disk has, which may lack the last changes.
    pub(super) fn started(&mut self, node: usize, cluster: &Cluster) {
        let version = cluster.tree(node).map_or(0, |tree| tree.root().version);
        let lineage = self.by_node.entry(node).or_default();
        Rc::make_mut(&mut lineage.links).retain(|link| link.version <= version);
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
            Observation::Strayed { .. } => self.mark_odd(fed.node),
            _ => {}
        }
    }

    fn grow(&mut self, fed: &Fed, name: Name, strays: &Strays, cluster: &Cluster) {
        let version = cluster.tree(fed.node).map_or(0, |tree| tree.root().version);
        let lineage = self.by_node.entry(fed.node).or_default();
        assert!(
            !lineage.has_message(name) || strays.is_peer(name.0) || lineage.is_odd,
            "lineage: {} applied message {} of {} for the second time",
            fed.id,
            name.1,
            name.0
        );
        lineage.grow(name, version);
    }

    fn replace(&mut self, node: usize, state: u64, node_count: usize) {
        let new = self.announced.get(&state).cloned().unwrap_or_default();
        let old = self.by_node.get(&node).cloned().unwrap_or_default();
        if !new.is_odd && !old.is_odd {
            let lost = old.without(&new);
            let is_majority = |link: &Link| {
                let lineages = self.by_node.values();
                let holders = lineages.filter(|lineage| lineage.has(link.chain));
                holders.count() * 2 > node_count
            };
            let is_excused = new.without(&old).iter().any(|link| !is_majority(link));
            let held: Vec<&Link> = lost.iter().filter(|link| is_majority(link)).collect();
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
