//! One group with its daemons.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::core::{Event, MemberId, Mode, Now, RequestId};

use super::{
    cpg::{Arrival, Cpg, Ordered, Position},
    network::Network,
    peer::PeerApp,
    probe::{Counted, Observation},
    replica::{Act, Replica},
};

/// Longest message that corosync takes in one piece.
pub(crate) const ATOMIC_LIMIT: usize = 600;

/// A daemon in a group.
pub(crate) struct Member<A: Counted, P> {
    pub(crate) replica: Replica<A, P>,
    pub(crate) id: MemberId,
    pub(crate) join_at_ms: Option<u64>,
    /// Corosync died, and the daemon has not noticed.
    is_lost: bool,
}

/// What a daemon was told.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Membership(Vec<MemberId>),
    Message { sender: MemberId, message: Bytes },
    Tick,
    Other,
}

/// One event and what came of it.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) node: usize,
    pub(crate) id: MemberId,
    pub(crate) is_ours: bool,
    pub(crate) what: What,
    pub(crate) before: Mode,
    pub(crate) after: Mode,
    /// Where it was in the group's order, if it was connected.
    pub(crate) position: Option<Position>,
    pub(crate) observations: Vec<Observation>,
    /// Messages that corosync took.
    pub(crate) sent: Vec<Bytes>,
    pub(crate) answers: Vec<(RequestId, Result<u32, FsError>)>,
    /// Lines for the log.
    pub(crate) told: Vec<String>,
}

pub(crate) struct Group<A: Counted, P> {
    name: &'static str,
    pub(crate) cpg: Cpg,
    pub(crate) members: Vec<Option<Member<A, P>>>,
    /// What happened, until somebody takes it.
    pub(crate) fed: Vec<Fed>,
    pub(crate) ordered: Vec<Ordered>,
}

impl<A, P> Group<A, P>
where
    A: Counted,
    P: PeerApp<Request = A::Wanted>,
{
    /// `name` comes before each line of the trace.
    pub(crate) fn new(name: &'static str, count: usize) -> Self {
        Self {
            name,
            cpg: Cpg::new(count),
            members: (0..count).map(|_| None).collect(),
            fed: Vec::new(),
            ordered: Vec::new(),
        }
    }

    pub(crate) fn start(
        &mut self,
        network: &Network,
        node: usize,
        id: MemberId,
        replica: Replica<A, P>,
    ) {
        self.members[node] = Some(Member {
            replica,
            id,
            join_at_ms: Some(network.now_ms),
            is_lost: false,
        });
    }

    /// The daemon is dead.
    pub(crate) fn end(&mut self, node: usize) -> Option<Member<A, P>> {
        self.cpg.close(node);
        self.members[node].take()
    }

    pub(crate) fn mode(&self, node: usize) -> Option<Mode> {
        Some(self.members[node].as_ref()?.replica.mode())
    }

    /// Corosync died under the daemon.
    pub(crate) fn lose(&mut self, node: usize) {
        let is_connected = self.cpg.connection(node).is_some();
        self.cpg.lose(node);
        if let Some(member) = &mut self.members[node] {
            member.is_lost |= is_connected;
        }
    }

    pub(crate) fn order(&mut self, network: &Network, node: usize) {
        self.ordered.extend(self.cpg.order(network, node));
    }

    /// Whether a daemon handles what arrives.
    fn is_ready(&self, network: &Network, node: usize) -> bool {
        let member = self.members[node].as_ref();
        network.is_awake(node) && member.is_some_and(|member| !member.replica.is_stuck())
    }

    fn notice_loss(&mut self, network: &mut Network, node: usize) {
        if let Some(member) = &mut self.members[node]
            && std::mem::take(&mut member.is_lost)
        {
            self.feed(network, node, What::Other, Event::Disconnected);
        }
    }

    /// The next message or membership change for a node.
    pub(crate) fn deliver(&mut self, network: &mut Network, node: usize) {
        if !self.is_ready(network, node) {
            return;
        }
        self.notice_loss(network, node);
        let Some((arrival, has_joined)) = self.cpg.receive(node) else {
            return;
        };
        let connection = self.cpg.connection(node);
        let has_more = connection.is_some_and(|open| !open.inbox.is_empty());
        let gathers = std::mem::take(&mut network.hosts[node].gathers_next);
        let is_last = !(gathers && has_more);
        match arrival {
            Arrival::Message {
                sender, message, ..
            } => {
                let what = What::Message {
                    sender,
                    message: message.clone(),
                };
                let event = Event::Delivered { sender, message };
                self.drive(network, node, what, |replica, now| {
                    replica.handle(now, event, is_last)
                });
            }
            Arrival::View { members, .. } => {
                network.tell(|| {
                    let names: Vec<String> = members.iter().map(MemberId::to_string).collect();
                    format!("{}{}: members {}", node + 1, self.name, names.join(" "))
                });
                let what = What::Membership(members.clone());
                let event = Event::Membership {
                    members,
                    has_joined,
                };
                self.drive(network, node, what, |replica, now| {
                    replica.handle(now, event, is_last)
                });
            }
        }
    }

    pub(crate) fn tick(&mut self, network: &mut Network, node: usize) {
        if !network.is_awake(node) {
            return;
        }
        self.notice_loss(network, node);
        let Some(member) = &mut self.members[node] else {
            return;
        };
        if member
            .join_at_ms
            .is_some_and(|at_ms| at_ms <= network.now_ms)
        {
            member.join_at_ms = None;
            let local = member.id;
            if network.hosts[node].is_corosync_up {
                self.cpg.connect(node, local);
                self.feed(network, node, What::Other, Event::Connected { local });
            } else {
                self.feed(network, node, What::Other, Event::ConnectFailed);
            }
        }
        self.feed(network, node, What::Tick, Event::Tick);
    }

    /// Hands an event to a daemon and does what it wants done.
    pub(crate) fn feed(&mut self, network: &mut Network, node: usize, what: What, event: Event) {
        self.drive(network, node, what, |replica, now| {
            replica.handle(now, event, true)
        });
    }

    /// A process of a node wants something.
    pub(crate) fn ask(
        &mut self,
        network: &mut Network,
        node: usize,
        id: RequestId,
        wanted: A::Wanted,
    ) {
        let ask = |replica: &mut Replica<A, P>, now| replica.ask(now, id, wanted);
        self.drive(network, node, What::Other, ask);
    }

    fn drive(
        &mut self,
        network: &mut Network,
        node: usize,
        what: What,
        call: impl FnOnce(&mut Replica<A, P>, Now) -> Vec<Act>,
    ) {
        let mut next = self.step(network, node, what, call);
        while let Some(event) = next.take() {
            next = self.step(network, node, What::Other, |replica, now| {
                replica.handle(now, event, true)
            });
        }
    }

    fn step(
        &mut self,
        network: &mut Network,
        node: usize,
        what: What,
        call: impl FnOnce(&mut Replica<A, P>, Now) -> Vec<Act>,
    ) -> Option<Event> {
        let member = self.members[node].as_mut()?;
        let before = member.replica.mode();
        let position = self.cpg.connection(node).map(|open| open.position);
        let acts = call(&mut member.replica, network.now(node));
        let mut fed = Fed {
            node,
            id: member.id,
            is_ours: member.replica.is_ours(),
            what,
            before,
            after: member.replica.mode(),
            position,
            observations: member.replica.observations(),
            sent: Vec::new(),
            answers: Vec::new(),
            told: Vec::new(),
        };
        let refused = self.carry_out(network, node, acts, &mut fed);
        self.fed.push(fed);
        refused
    }

    /// What corosync did not take comes back as an event.
    fn carry_out(
        &mut self,
        network: &mut Network,
        node: usize,
        acts: Vec<Act>,
        fed: &mut Fed,
    ) -> Option<Event> {
        let mut refused = Vec::new();
        let mut is_interrupted = false;
        let is_lost = self.members[node].as_ref()?.is_lost;
        for act in acts {
            match act {
                Act::Send(message) => {
                    let host = &mut network.hosts[node];
                    let is_large = message.len() > ATOMIC_LIMIT;
                    let interrupts = is_large && std::mem::take(&mut host.interrupts_next);
                    // A C daemon does not send the one again, and goes on with the next.
                    let stops = fed.is_ours || !is_interrupted;
                    let waits = !refused.is_empty() && stops;
                    if waits || interrupts || is_lost || !host.takes_message() {
                        is_interrupted |= interrupts;
                        refused.push(message);
                    } else {
                        self.cpg.send(node, message.clone());
                        fed.sent.push(message);
                    }
                }
                Act::Leave => {
                    self.cpg.close(node);
                    self.members[node].as_mut()?.is_lost = false;
                    network.tell(|| format!("{}{}: leaves", node + 1, self.name));
                }
                Act::Join { delay_ms } => {
                    let at_ms = network.now_ms + delay_ms;
                    self.members[node].as_mut()?.join_at_ms = Some(at_ms);
                }
                Act::Answer { id, result } => {
                    fed.answers.push((id, result));
                    network.tell(|| match result {
                        Ok(value) => format!("{}: request {} returns {value}", node + 1, id.0),
                        Err(error) => format!("{}: request {} fails: {error}", node + 1, id.0),
                    });
                }
                Act::Tell(text) => {
                    network.tell(|| format!("{}{}: {text}", node + 1, self.name));
                    fed.told.push(text);
                }
            }
        }
        if refused.is_empty() {
            return None;
        }
        let is_hopeless = is_lost || (is_interrupted && !fed.is_ours);
        Some(if is_hopeless {
            Event::SendFailed { unsent: refused }
        } else {
            Event::SendBlocked { unsent: refused }
        })
    }
}
