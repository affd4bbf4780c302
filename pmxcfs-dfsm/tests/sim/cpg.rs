//! The closed process group of the simulation.
//!
//! What corosync promises holds here: within a component there is one order of messages and membership changes; whoever
//! goes from one membership to the next together has received the same before it; messages of one host keep their order,
//! a leave comes behind the messages before it, and a join on a new connection behind the leave on the old one. When hosts
//! are cut off from each other, what was under way is received by both sides, or by the sender's side only. Everything
//! else is up to the story: who is next, what is lost with a host, how long things take.

use std::collections::VecDeque;

use bytes::Bytes;
use pmxcfs_dfsm::core::MemberId;

use super::network::Network;

/// One delivery.
#[derive(Debug, Clone)]
pub(crate) enum Arrival {
    Message {
        /// Its place in the order.
        place: u64,
        sender: MemberId,
        message: Bytes,
    },
    View {
        id: u64,
        members: Vec<MemberId>,
    },
}

/// What a process has received: two that have the same position have received the same since their last membership.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) view: u64,
    /// Digest of what was received in the view.
    pub(crate) seen: u64,
}

/// A daemon's connection to one group.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: MemberId,
    /// Its join has its place in the order.
    pub(crate) is_joined: bool,
    pub(crate) inbox: VecDeque<Arrival>,
    /// The membership that was delivered last, and the one that was put into the inbox last.
    view: Vec<MemberId>,
    coming: (u64, Vec<MemberId>),
    pub(crate) position: Position,
    /// Place of the last message delivered.
    last_place: u64,
}

#[derive(Debug)]
enum Item {
    Join,
    Message(Bytes),
    Leave,
}

/// One host's part of the group.
#[derive(Debug, Default)]
struct Port {
    connection: Option<Connection>,
    /// Handed to corosync and not in the order yet, of the present and of former connections.
    queue: VecDeque<(MemberId, Item)>,
    /// The process of this host that is in the group as far as the order goes.
    joined: Option<MemberId>,
}

/// A message that has got its place.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) sender: MemberId,
    pub(crate) message: Bytes,
    /// Membership in which it will be received.
    pub(crate) view: u64,
}

/// One group on all hosts.
#[derive(Debug)]
pub(crate) struct Cpg {
    ports: Vec<Port>,
    /// Listed processes that do not exist, by component. They go when somebody leaves.
    pub(crate) ghosts: Vec<(usize, MemberId)>,
    last_view: u64,
    last_place: u64,
}

impl Cpg {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            ports: (0..count).map(|_| Port::default()).collect(),
            ghosts: Vec::new(),
            last_view: 0,
            last_place: 0,
        }
    }

    pub(crate) fn connection(&self, node: usize) -> Option<&Connection> {
        self.ports[node].connection.as_ref()
    }

    /// Whether nothing of a host is on its way to the group.
    pub(crate) fn is_quiet(&self, node: usize) -> bool {
        let port = &self.ports[node];
        let is_read = |connection: &Connection| connection.inbox.is_empty();
        port.queue.is_empty() && port.connection.as_ref().is_none_or(is_read)
    }

    pub(crate) fn connect(&mut self, node: usize, id: MemberId) {
        let port = &mut self.ports[node];
        port.connection = Some(Connection {
            id,
            is_joined: false,
            inbox: VecDeque::new(),
            view: Vec::new(),
            coming: (0, Vec::new()),
            position: Position::default(),
            last_place: 0,
        });
        port.queue.push_back((id, Item::Join));
    }

    /// Takes a message from the connected daemon.
    pub(crate) fn send(&mut self, node: usize, message: Bytes) {
        let port = &mut self.ports[node];
        if let Some(connection) = &port.connection {
            port.queue
                .push_back((connection.id, Item::Message(message)));
        }
    }

    /// The daemon leaves and closes its connection, or died. What it sent before goes its way.
    pub(crate) fn close(&mut self, node: usize) {
        let port = &mut self.ports[node];
        if let Some(connection) = port.connection.take() {
            port.queue.push_back((connection.id, Item::Leave));
        }
    }

    /// Corosync is gone from a host, with everything it had not put into the order.
    pub(crate) fn lose(&mut self, node: usize) {
        self.ports[node] = Port::default();
    }

    /// Gives the oldest item of a host its place in the order of its component.
    pub(crate) fn order(&mut self, network: &Network, node: usize) -> Option<Ordered> {
        if !network.hosts[node].is_corosync_up {
            return None;
        }
        let component = network.hosts[node].component;
        let port = &mut self.ports[node];
        let (sender, item) = port.queue.pop_front()?;
        match item {
            Item::Join => {
                port.joined = Some(sender);
                if let Some(connection) = &mut port.connection
                    && connection.id == sender
                {
                    connection.is_joined = true;
                }
                self.announce_view(network, component);
                None
            }
            Item::Leave => {
                if port.joined == Some(sender) {
                    port.joined = None;
                }
                self.ghosts.retain(|(place, _)| *place != component);
                self.announce_view(network, component);
                None
            }
            Item::Message(message) => {
                if port.joined != Some(sender) {
                    return None;
                }
                self.last_place += 1;
                let place = self.last_place;
                let mut view = 0;
                for connection in self.connections(network, component) {
                    view = connection.coming.0;
                    connection.inbox.push_back(Arrival::Message {
                        place,
                        sender,
                        message: message.clone(),
                    });
                }
                Some(Ordered {
                    sender,
                    message,
                    view,
                })
            }
        }
    }

    /// The next thing that a daemon receives; for a membership also whether somebody joined.
    pub(crate) fn receive(&mut self, node: usize) -> Option<(Arrival, bool)> {
        let connection = self.ports[node].connection.as_mut()?;
        let arrival = connection.inbox.pop_front()?;
        let mut has_joined = false;
        match &arrival {
            Arrival::Message { place, .. } => {
                connection.last_place = *place;
                connection.position.seen = mixed(connection.position.seen, *place);
            }
            Arrival::View { id, members } => {
                has_joined = members
                    .iter()
                    .any(|member| !connection.view.contains(member));
                connection.view.clone_from(members);
                connection.position = Position { view: *id, seen: 0 };
            }
        }
        Some((arrival, has_joined))
    }

    /// A process that joined and died in one round stays listed.
    pub(crate) fn add_ghost(&mut self, network: &Network, component: usize, ghost: MemberId) {
        self.ghosts.push((component, ghost));
        self.announce_view(network, component);
    }

    /// Components have changed. Of what comes from hosts that a component has lost and that nobody in it has received,
    /// the last `lost` messages do not reach it. `in_steps`: first who left is told, then who joined.
    pub(crate) fn regroup(&mut self, network: &Network, lost: usize, in_steps: bool) {
        let components = network.components();
        self.ghosts
            .retain(|(component, _)| components.contains(component));
        for component in components {
            self.drop_undelivered(network, component, lost);
            if in_steps {
                self.announce_leavers(network, component);
            }
            self.announce_view(network, component);
        }
    }

    /// Tells the members of a component their list, if it is not what they were told before.
    pub(crate) fn announce_view(&mut self, network: &Network, component: usize) {
        let members = self.members(network, component);
        self.last_view += 1;
        let id = self.last_view;
        for connection in self.connections(network, component) {
            connection.announce(id, &members);
        }
    }

    fn members(&self, network: &Network, component: usize) -> Vec<MemberId> {
        let hosts = network.component(component);
        let mut members: Vec<MemberId> = hosts
            .iter()
            .filter_map(|node| self.ports[*node].joined)
            .collect();
        let ghosts = self
            .ghosts
            .iter()
            .filter(|(place, _)| *place == component)
            .map(|(_, ghost)| *ghost);
        members.extend(ghosts);
        members
    }

    fn announce_leavers(&mut self, network: &Network, component: usize) {
        let members = self.members(network, component);
        let mut former: Vec<(u64, u64)> = Vec::new();
        let mut last_view = self.last_view;
        for connection in self.connections(network, component) {
            let (view, listed) = &connection.coming;
            let stay: Vec<MemberId> = listed
                .iter()
                .copied()
                .filter(|member| members.contains(member))
                .collect();
            if stay.len() == listed.len() {
                continue;
            }
            let known = former.iter().find(|(old, _)| old == view);
            let id = match known {
                Some((_, id)) => *id,
                None => {
                    last_view += 1;
                    former.push((*view, last_view));
                    last_view
                }
            };
            connection.announce(id, &stay);
        }
        self.last_view = last_view;
    }

    /// Messages that nobody in the component has received, that came after its last membership, and whose senders are
    /// not in it: the last ones of them may be lost.
    fn drop_undelivered(&mut self, network: &Network, component: usize, lost: usize) {
        if lost == 0 {
            return;
        }
        let hosts = network.component(component);
        let own: Vec<MemberId> = hosts
            .iter()
            .filter_map(|node| self.ports[*node].joined)
            .collect();
        let mut after = 0;
        for connection in self.connections(network, component) {
            after = after.max(connection.settled_place());
        }
        let mut candidates: Vec<u64> = Vec::new();
        for connection in self.connections(network, component) {
            for arrival in &connection.inbox {
                if let Arrival::Message { place, sender, .. } = arrival
                    && *place > after
                    && !own.contains(sender)
                    && !candidates.contains(place)
                {
                    candidates.push(*place);
                }
            }
        }
        candidates.sort_unstable();
        let kept = candidates.len().saturating_sub(lost);
        let dropped = candidates.split_off(kept);
        for connection in self.connections(network, component) {
            connection.inbox.retain(|arrival| {
                !matches!(arrival, Arrival::Message { place, .. } if dropped.contains(place))
            });
        }
    }

    fn connections(
        &mut self,
        network: &Network,
        component: usize,
    ) -> impl Iterator<Item = &mut Connection> {
        let hosts = network.component(component);
        self.ports
            .iter_mut()
            .enumerate()
            .filter(move |(node, _)| hosts.contains(node))
            .filter_map(|(_, port)| port.connection.as_mut())
            .filter(|connection| connection.is_joined)
    }
}

impl Connection {
    fn announce(&mut self, id: u64, members: &[MemberId]) {
        if self.coming.1 != members {
            self.coming = (id, members.to_vec());
            let members = members.to_vec();
            self.inbox.push_back(Arrival::View { id, members });
        }
    }

    /// Place of the last message that this process has received, or will receive before a membership change.
    fn settled_place(&self) -> u64 {
        let last_view = self
            .inbox
            .iter()
            .rposition(|arrival| matches!(arrival, Arrival::View { .. }));
        let before = self.inbox.iter().take(last_view.unwrap_or(0));
        let places = before.filter_map(|arrival| match arrival {
            Arrival::Message { place, .. } => Some(*place),
            Arrival::View { .. } => None,
        });
        places.max().unwrap_or(0).max(self.last_place)
    }
}

fn mixed(seen: u64, place: u64) -> u64 {
    (seen ^ place)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
}
