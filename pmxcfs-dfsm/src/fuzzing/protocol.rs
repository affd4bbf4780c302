//! Members of a group whose messages come in any order, more than once, or damaged, in the same order to all of them.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::Ticket;
use pmxcfs_memdb::{
    Caller, Change, Delivered, Operation, Plan, Reply, RootState, Rules, Stamp, Tree,
};

use crate::core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView};
use crate::database::{Database, TreeStore};

const MEMBER_COUNT: usize = 3;

/// Bounds the memory of a run.
const MAX_STEPS: usize = 2000;

/// Reached by some runs.
const BACKLOG_LIMIT: usize = 4096;

/// Carries out a script of two bytes a step. After each step all members that are synced have the same data: a member
/// agrees with the others about what was delivered, or it has left.
pub fn protocol(script: &[u8]) {
    let mut ring = Ring::new();
    for step in script.chunks_exact(2).take(MAX_STEPS) {
        let (what, detail) = (step[0] / 16, usize::from(step[1]));
        let node = usize::from(step[0] % 16) % MEMBER_COUNT;
        match what {
            0..=3 => ring.deliver(node),
            4 => ring.deliver_all(),
            5 | 6 => ring.ask(node, detail),
            7 => ring.nodes[node].outgoing.rotate_left_if_any(),
            8 => ring.repeat(detail),
            9 => ring.damage(node, detail),
            10 => ring.leave(node),
            11 | 12 => ring.join(node),
            13 => ring.feed(node, view(detail % 4 > 0)),
            _ => ring.tick(detail),
        }
        ring.check();
    }
}

/// Corosync sees all nodes, whichever daemons have joined.
fn view(is_quorate: bool) -> Event {
    let nodes = (1..).take(MEMBER_COUNT);
    Event::Quorum(QuorumView::default().followed_by(is_quorate, nodes))
}

trait RotateIfAny {
    fn rotate_left_if_any(&mut self);
}

impl RotateIfAny for VecDeque<Bytes> {
    /// The first one is sent behind all others.
    fn rotate_left_if_any(&mut self) {
        if !self.is_empty() {
            self.rotate_left(1);
        }
    }
}

struct Node {
    id: MemberId,
    machine: Machine<Database<Memory>>,
    outgoing: VecDeque<Bytes>,
    is_member: bool,
}

struct Ring {
    nodes: Vec<Node>,
    now_ms: u64,
    /// What was delivered in this membership.
    delivered: Vec<(MemberId, Bytes)>,
}

impl Ring {
    fn new() -> Self {
        let root = RootState {
            version: 1,
            writer: 0,
            mtime: 1,
        };
        let node = |node| {
            let tree = Tree::from_entries(root, [], Rules::Replicated, 0);
            let store = Memory {
                tree: tree.expect("an empty tree"),
            };
            let app = Database::new(store, Box::new(drop));
            Node {
                id: MemberId { node, pid: 7 },
                machine: Machine::with_backlog_limit(app, BACKLOG_LIMIT),
                outgoing: VecDeque::new(),
                is_member: false,
            }
        };
        let mut ring = Self {
            nodes: (1..).map(node).take(MEMBER_COUNT).collect(),
            now_ms: 0,
            delivered: Vec::new(),
        };
        for node in 0..MEMBER_COUNT {
            ring.feed(node, view(true));
            ring.join(node);
            ring.deliver_all();
        }
        ring
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_secs: 1000,
        }
    }

    fn feed(&mut self, node: usize, event: Event) {
        let now = self.now();
        let actions = self.nodes[node].machine.handle(now, event);
        self.carry_out(node, actions);
    }

    fn ask(&mut self, node: usize, detail: usize) {
        let path = Bytes::from_static([&b"a"[..], b"b", b"a/c"][detail % 3]);
        let operation = match detail / 3 % 5 {
            0 => Operation::Mkdir { path },
            1 => Operation::Create { path },
            2 => Operation::Delete { path },
            3 => Operation::Rename {
                from: path,
                to: Bytes::from_static(b"b"),
            },
            _ => Operation::Write {
                path,
                offset: 0,
                data: Bytes::from(vec![b'x'; detail * 4]),
                truncate: detail.is_multiple_of(2),
            },
        };
        let now = self.now();
        let machine = &mut self.nodes[node].machine;
        let actions = machine.request(now, Box::new(Wish(operation)));
        self.carry_out(node, actions);
    }

    fn carry_out(&mut self, node: usize, mut actions: Vec<Action>) {
        let node_left = {
            let node = &mut self.nodes[node];
            actions.extend(node.machine.settle());
            node.machine.flush();
            let mut has_left = false;
            for action in actions {
                match action {
                    Action::Multicast(message) if node.is_member => {
                        node.outgoing.push_back(message);
                    }
                    Action::Leave => has_left = node.is_member,
                    _ => {}
                }
            }
            has_left
        };
        if node_left {
            self.nodes[node].is_member = false;
            self.nodes[node].outgoing.clear();
        }
    }

    /// Tells all members who they are.
    fn regroup(&mut self, has_joined: bool) {
        self.delivered.clear();
        let mut told = Vec::new();
        // Somebody may leave when it is told.
        while told != self.members() {
            told = self.members();
            let members: Vec<MemberId> = told.iter().map(|node| self.nodes[*node].id).collect();
            for node in &told {
                let members = members.clone();
                self.feed(
                    *node,
                    Event::Membership {
                        members,
                        has_joined,
                    },
                );
            }
        }
    }

    fn members(&self) -> Vec<usize> {
        let nodes = 0..MEMBER_COUNT;
        nodes.filter(|node| self.nodes[*node].is_member).collect()
    }

    fn join(&mut self, node: usize) {
        if !self.nodes[node].is_member {
            self.nodes[node].is_member = true;
            let local = self.nodes[node].id;
            self.feed(node, Event::Connected { local });
            self.regroup(true);
        }
    }

    /// Its connection is lost.
    fn leave(&mut self, node: usize) {
        if self.nodes[node].is_member {
            self.nodes[node].is_member = false;
            self.nodes[node].outgoing.clear();
            self.feed(node, Event::Disconnected);
            self.regroup(false);
        }
    }

    fn deliver(&mut self, node: usize) {
        let id = self.nodes[node].id;
        if let Some(message) = self.nodes[node].outgoing.pop_front() {
            self.deliver_message(id, &message);
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..MAX_STEPS {
            if self.nodes.iter().all(|node| node.outgoing.is_empty()) {
                return;
            }
            (0..MEMBER_COUNT).for_each(|node| self.deliver(node));
        }
    }

    fn deliver_message(&mut self, sender: MemberId, message: &Bytes) {
        let members = self.members();
        self.delivered.push((sender, message.clone()));
        for node in &members {
            let message = message.clone();
            self.feed(*node, Event::Delivered { sender, message });
        }
        if self.members() != members {
            self.regroup(false);
        }
    }

    fn repeat(&mut self, back: usize) {
        let index = self.delivered.len().checked_sub(1 + back % 16);
        if let Some((sender, message)) = index.map(|index| self.delivered[index].clone()) {
            self.deliver_message(sender, &message);
        }
    }

    fn damage(&mut self, node: usize, place: usize) {
        if let Some(message) = self.nodes[node].outgoing.front_mut() {
            let mut bytes = message.to_vec();
            let index = place % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << (place % 8);
            }
            *message = bytes.into();
        }
    }

    fn tick(&mut self, seconds: usize) {
        self.now_ms += 1000 * (seconds % 40) as u64;
        let members = self.members();
        (0..MEMBER_COUNT).for_each(|node| self.feed(node, Event::Tick));
        if self.members() != members {
            self.regroup(false);
        }
    }

    fn check(&self) {
        let members = self.nodes.iter().filter(|node| node.is_member);
        let synced = members.filter(|node| node.machine.mode() == Mode::Synced);
        let mut data = synced.map(|node| node.machine.app().store().tree.index());
        if let Some(first) = data.next() {
            assert!(data.all(|other| other == first), "synced members differ");
        }
    }
}

/// A tree without a disk.
struct Memory {
    tree: Tree,
}

impl TreeStore for Memory {
    fn read<R>(&self, call: impl FnOnce(&Tree) -> R) -> R {
        call(&self.tree)
    }

    fn change<R>(
        &mut self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        (call(&mut self.tree, &mut Vec::new()), None)
    }

    fn deliver(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        caller: Option<Box<dyn Caller>>,
    ) -> Delivered {
        let mut changes = Vec::new();
        let result = self.tree.apply(operation, stamp, now_secs, &mut changes);
        let reply = caller.map(|caller| caller.answer(&mut self.tree, &changes, result));
        Delivered {
            result,
            answer: reply.map(|reply| (reply, None)),
        }
    }

    fn acknowledge(&mut self, _ticket: Option<Ticket>, reply: Reply) {
        reply(Ok(()));
    }

    fn replace(
        &mut self,
        mut tree: Tree,
        _touched: &BTreeSet<u64>,
        _leader: u32,
    ) -> Result<(), String> {
        tree.adopt(&mut self.tree);
        self.tree = tree;
        Ok(())
    }

    fn is_failed(&self) -> bool {
        false
    }
}

/// A process that does not care for its answer.
struct Wish(Operation);

impl Caller for Wish {
    fn plan(&mut self, _tree: &mut Tree) -> Result<Plan, FsError> {
        Ok(Plan::Apply(self.0.clone()))
    }

    fn answer(
        self: Box<Self>,
        _tree: &mut Tree,
        _changes: &[Change],
        _result: Result<u32, FsError>,
    ) -> Reply {
        Box::new(|_durable| {})
    }

    fn refuse(self: Box<Self>, _error: FsError) {}
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::protocol;

    proptest! {
        #[test]
        fn any_script(script in vec(any::<u8>(), 0..600)) {
            protocol(&script);
        }
    }
}
