//! Nodes of the cluster: who they are, who is online, and under which address.
//!
//! The node list comes from corosync's configuration and is replaced as a whole; online flags follow the membership of
//! the status group; addresses are told by the nodes themselves and are kept by name, as C peers do.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use pmxcfs_api_types::NodeId;

/// A node as the list has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name.
    pub name: Bytes,
    /// Whether its daemon is in the status group.
    pub is_online: bool,
}

/// What corosync says about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Name of the cluster.
    pub name: Bytes,
    /// `totem.config_version`, shown as a signed 32-bit number.
    pub config_version: i32,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Member>,
}

/// Members of the cluster, and the counter that tells clients when they changed.
#[derive(Debug, Clone)]
pub struct Members {
    /// Name of this node.
    pub own_name: Bytes,
    cluster: Option<ClusterInfo>,
    addresses: HashMap<Bytes, Bytes>,
    /// The last membership of the status group, known or not in the list.
    online: BTreeSet<NodeId>,
    /// The version that clients compare (`clinfo`).
    pub version: u32,
    /// Grows with every change.
    pub generation: u64,
}

impl Members {
    /// A node that knows of no cluster.
    pub fn new(own_name: Bytes) -> Self {
        Self {
            own_name,
            cluster: None,
            addresses: HashMap::new(),
            online: BTreeSet::new(),
            version: 0,
            generation: 0,
        }
    }

    /// What corosync says, if it has said anything and listed at least one node.
    pub fn cluster(&self) -> Option<&ClusterInfo> {
        self.cluster
            .as_ref()
            .filter(|cluster| !cluster.nodes.is_empty())
    }

    /// The address that a node told, as text.
    pub fn address(&self, name: &[u8]) -> Option<&Bytes> {
        self.addresses.get(name)
    }

    /// Name of a listed node.
    pub fn name_of(&self, id: NodeId) -> Option<&Bytes> {
        Some(&self.cluster.as_ref()?.nodes.get(&id)?.name)
    }

    /// Id of a listed node.
    pub fn id_of(&self, name: &[u8]) -> Option<NodeId> {
        let nodes = &self.cluster.as_ref()?.nodes;
        nodes
            .iter()
            .find(|(_, node)| node.name == name)
            .map(|(id, _)| *id)
    }

    /// Takes over a new node list. Online flags of nodes that stay are kept by id; a node that is new in the list
    /// starts offline. Entries without id or name are left out, of two with one id the later one counts.
    ///
    /// The first list finds the members that have been seen online before it arrived.
    pub fn replace_node_list(
        &mut self,
        cluster_name: Bytes,
        config_version: i32,
        list: impl IntoIterator<Item = (NodeId, Bytes)>,
    ) {
        let former = self.cluster.take();
        let mut nodes = BTreeMap::new();
        for (id, name) in list {
            if id == NodeId(0) || name.is_empty() {
                continue;
            }
            let is_online = match &former {
                Some(former) => former.nodes.get(&id).is_some_and(|node| node.is_online),
                None => self.online.contains(&id),
            };
            nodes.insert(id, Member { name, is_online });
        }
        self.cluster = Some(ClusterInfo {
            name: cluster_name,
            config_version,
            nodes,
        });
        self.changed();
    }

    /// Takes over the membership of the status group.
    pub fn set_online(&mut self, members: impl IntoIterator<Item = NodeId>) {
        self.online = members.into_iter().collect();
        if let Some(cluster) = &mut self.cluster {
            for (id, node) in &mut cluster.nodes {
                node.is_online = self.online.contains(id);
            }
            self.changed();
        }
    }

    /// Corosync is gone: nothing is known of the others any more. The C daemon keeps showing them online.
    pub fn lose_sight(&mut self) {
        self.online.clear();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let mut has_changed = false;
        for node in cluster.nodes.values_mut() {
            if node.is_online && node.name != self.own_name {
                node.is_online = false;
                has_changed = true;
            }
        }
        if has_changed {
            self.changed();
        }
    }

    /// Notes the address that a node told.
    pub fn set_address(&mut self, name: Bytes, address: Bytes) {
        if self.addresses.get(&name) != Some(&address) {
            self.addresses.insert(name, address);
            self.changed();
        }
    }

    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u32, name: &'static str) -> (NodeId, Bytes) {
        (NodeId(id), Bytes::from_static(name.as_bytes()))
    }

    fn members() -> Members {
        let mut members = Members::new(Bytes::from_static(b"a"));
        members.replace_node_list(Bytes::new(), 1, [entry(1, "a"), entry(2, "b")]);
        members
    }

    fn online(members: &Members) -> Vec<u32> {
        let nodes = &members.cluster().unwrap().nodes;
        nodes
            .iter()
            .filter(|(_, node)| node.is_online)
            .map(|(id, _)| id.0)
            .collect()
    }

    #[test]
    fn a_list_keeps_flags_by_id_and_addresses_by_name() {
        let mut members = members();
        members.set_online([NodeId(1), NodeId(2), NodeId(9)]);
        members.set_address(Bytes::from_static(b"b"), Bytes::from_static(b"10.0.0.2"));
        members.replace_node_list(
            Bytes::new(),
            2,
            [entry(1, "a"), entry(2, "renamed"), entry(9, "new")],
        );
        assert_eq!(online(&members), [1, 2]);
        assert_eq!(members.address(b"renamed"), None);
        assert!(members.address(b"b").is_some());
    }

    #[test]
    fn a_list_with_one_id_twice_has_it_once() {
        let mut members = members();
        members.replace_node_list(
            Bytes::new(),
            1,
            [entry(1, "x"), entry(1, "y"), entry(0, "z"), entry(3, "")],
        );
        assert_eq!(members.id_of(b"x"), None);
        assert_eq!(members.id_of(b"y"), Some(NodeId(1)));
        assert_eq!(members.cluster().unwrap().nodes.len(), 1);
    }

    #[test]
    fn members_seen_before_the_first_list_are_online_in_it() {
        let mut members = Members::new(Bytes::from_static(b"a"));
        members.set_online([NodeId(2)]);
        assert_eq!(members.version, 0);
        members.replace_node_list(Bytes::new(), 1, [entry(1, "a"), entry(2, "b")]);
        assert_eq!((members.version, online(&members)), (1, vec![2]));
    }

    #[test]
    fn without_corosync_only_the_own_node_is_online() {
        let mut members = members();
        members.set_online([NodeId(1), NodeId(2)]);
        let version = members.version;
        members.lose_sight();
        assert_eq!((online(&members), members.version), (vec![1], version + 1));
        members.lose_sight();
        assert_eq!(members.version, version + 1);
    }

    #[test]
    fn the_version_counts_lists_memberships_and_changed_addresses() {
        let mut members = members();
        members.set_online([]);
        members.set_online([]);
        for address in ["1", "1", "2"] {
            members.set_address(
                Bytes::from_static(b"a"),
                Bytes::from_static(address.as_bytes()),
            );
        }
        assert_eq!(members.version, 5);
    }
}
