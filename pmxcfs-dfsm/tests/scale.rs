//! Clusters of up to 64 members: what joins, a partition and a slow member cost in messages, bytes, and bytes that wait for one
//! member.
//!
//! Each change of the membership makes every member announce its index once, so N members that come one by one announce
//! N (N + 1) / 2 times; C peers need that. Changes that come together cost one round. An entry is sent once in an exchange,
//! however many members lack it. A member holds one round at most. Nothing may cost more.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test may fail by a panic, tells what it counted, and uses a part of the simulation"
)]

#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;
use disk::{Disk, Saved};
use pmxcfs_dfsm::{
    core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView, RequestId},
    database::Database,
    wire::{Header, MessageKind},
};
use pmxcfs_memdb::{Operation, Stamp};

const SIZES: [usize; 3] = [16, 32, 64];

/// Entries of the first member, each with this many bytes.
const ENTRY_COUNT: usize = 200;
const ENTRY_SIZE: usize = 620;

/// What an entry of an index takes, in bytes.
const INDEX_ENTRY_SIZE: u64 = 40;

/// What an update takes beside its content, at most.
const UPDATE_OVERHEAD: u64 = 100;

/// What any other message takes at most, and an index beside its entries.
const SMALL_SIZE: u64 = 100;

/// Messages that a slow member handles while the others handle all that there are.
const SLOW_COUNT: usize = 3;

enum Arrival {
    Message(MemberId, Bytes),
    View(Vec<MemberId>),
}

struct Node {
    id: MemberId,
    machine: Machine<Database<Disk>>,
    inbox: VecDeque<Arrival>,
    is_member: bool,
    side: usize,
    is_slow: bool,
    view: Vec<MemberId>,
}

/// What was multicast.
#[derive(Default)]
struct Cost {
    messages: BTreeMap<u16, u64>,
    bytes: u64,
    /// The most bytes that waited for one member at a time.
    waiting: usize,
}

impl Cost {
    fn count(&self, kind: MessageKind) -> u64 {
        let count = self.messages.get(&u16::from(kind));
        count.copied().unwrap_or(0)
    }
}

struct Cluster {
    nodes: Vec<Node>,
    now_ms: u64,
    cost: Cost,
    last_request: u64,
}

fn full() -> Saved {
    let mut tree = Saved::fresh(1).load(0);
    let stamp = Stamp {
        writer: 1,
        mtime: 1,
    };
    for number in 1..ENTRY_COUNT {
        let path = Bytes::from(format!("f{number}"));
        let data = Bytes::from(vec![b'x'; ENTRY_SIZE]);
        for operation in [
            Operation::Create { path: path.clone() },
            Operation::Write {
                path,
                offset: 0,
                data,
                truncate: false,
            },
        ] {
            tree.apply(&operation, stamp, 0, &mut Vec::new()).unwrap();
        }
    }
    Saved::of(&tree)
}

impl Cluster {
    /// Nobody is in the group. The first one has files, the others are empty.
    fn new(size: usize) -> Self {
        let node = |index: usize| {
            let saved = if index == 0 { full() } else { Saved::fresh(1) };
            let app = Database::new(Disk::new(saved.load(0)), Box::new(drop));
            Node {
                id: MemberId {
                    node: index as u32 + 1,
                    pid: 1,
                },
                machine: Machine::new(app),
                inbox: VecDeque::new(),
                is_member: false,
                side: 0,
                is_slow: false,
                view: Vec::new(),
            }
        };
        let mut cluster = Self {
            nodes: (0..size).map(node).collect(),
            now_ms: 0,
            cost: Cost::default(),
            last_request: 0,
        };
        for index in 0..size {
            cluster.feed(
                index,
                Event::Quorum(QuorumView::default().followed_by(true, [])),
            );
        }
        cluster
    }

    /// All of them in the group, in sync.
    fn joined(size: usize) -> Self {
        let mut cluster = Self::new(size);
        (0..size).for_each(|index| cluster.join(index));
        cluster.settle();
        cluster.cost = Cost::default();
        cluster
    }

    fn join(&mut self, index: usize) {
        self.nodes[index].is_member = true;
        let local = self.nodes[index].id;
        self.feed(index, Event::Connected { local });
        self.announce_views();
    }

    fn partition(&mut self, side: impl Fn(usize) -> usize) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.side = side(index);
        }
        self.announce_views();
    }

    fn announce_views(&mut self) {
        for index in 0..self.nodes.len() {
            let side = self.nodes[index].side;
            let present = self.nodes.iter();
            let present = present.filter(|node| node.is_member && node.side == side);
            let view: Vec<MemberId> = present.map(|node| node.id).collect();
            let node = &mut self.nodes[index];
            if node.is_member && node.view != view {
                node.view.clone_from(&view);
                node.inbox.push_back(Arrival::View(view));
            }
        }
    }

    fn write(&mut self, index: usize) {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let operation = Operation::Write {
            path: Bytes::from_static(b"f1"),
            offset: 0,
            data: Bytes::from(self.last_request.to_string()),
            truncate: false,
        };
        let now = self.now();
        let machine = &mut self.nodes[index].machine;
        let caller = machine.app().store().answers.client(id, operation);
        let actions = machine.request(now, caller);
        self.carry_out(index, actions);
        self.flush(index);
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_secs: (self.now_ms / 1000) as u32,
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        let now = self.now();
        let actions = self.nodes[index].machine.handle(now, event);
        self.carry_out(index, actions);
    }

    /// Everything that came in together is handled.
    fn flush(&mut self, index: usize) {
        let actions = self.nodes[index].machine.settle();
        self.carry_out(index, actions);
        self.nodes[index].machine.flush();
    }

    fn carry_out(&mut self, index: usize, actions: Vec<Action>) {
        let (sender, side) = (self.nodes[index].id, self.nodes[index].side);
        for action in actions {
            match action {
                Action::Multicast(message) => {
                    let kind = u16::from(Header::decode(&message).unwrap().kind);
                    *self.cost.messages.entry(kind).or_default() += 1;
                    self.cost.bytes += message.len() as u64;
                    let receivers = self.nodes.iter_mut();
                    for node in receivers.filter(|node| node.is_member && node.side == side) {
                        let arrival = Arrival::Message(sender, message.clone());
                        node.inbox.push_back(arrival);
                    }
                }
                Action::Leave | Action::Join { .. } => panic!("{sender} leaves"),
                Action::Log { .. } => {}
            }
        }
    }

    /// Everybody handles what has come: a slow member some of it, the others all.
    fn turn(&mut self) {
        self.now_ms += 1;
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let waiting = node.inbox.iter().map(|arrival| match arrival {
                Arrival::Message(_, message) => message.len(),
                Arrival::View(_) => 0,
            });
            self.cost.waiting = self.cost.waiting.max(waiting.sum());
            let arrivals = if node.is_slow {
                let count = node.inbox.len().min(SLOW_COUNT);
                node.inbox.drain(..count).collect()
            } else {
                mem::take(&mut node.inbox)
            };
            let mut former: Vec<MemberId> = Vec::new();
            for arrival in arrivals {
                match arrival {
                    Arrival::Message(sender, message) => {
                        self.feed(index, Event::Delivered { sender, message });
                    }
                    Arrival::View(members) => {
                        if former.is_empty() {
                            former = self.nodes[index].machine.status().members;
                        }
                        let has_joined = members.iter().any(|member| !former.contains(member));
                        former.clone_from(&members);
                        self.feed(
                            index,
                            Event::Membership {
                                members,
                                has_joined,
                            },
                        );
                    }
                }
            }
            self.flush(index);
        }
    }

    /// Until nothing is under way; then all members are in sync and equal.
    fn settle(&mut self) {
        while self.nodes.iter().any(|node| !node.inbox.is_empty()) {
            self.turn();
        }
        let members = self.nodes.iter().filter(|node| node.is_member);
        let first = self.nodes[0].machine.app().store().tree.index();
        for node in members {
            assert_eq!(node.machine.mode(), Mode::Synced, "{}", node.id);
            assert!(node.machine.app().store().tree.index() == first);
        }
    }

    /// The cost since the last call.
    fn told(&mut self, story: &str) -> Cost {
        let cost = mem::take(&mut self.cost);
        println!(
            "| {story} | {} | {} | {} | {:.1} | {:.1} |",
            self.nodes.len(),
            cost.count(MessageKind::State),
            cost.count(MessageKind::Update),
            cost.bytes as f64 / 1e6,
            cost.waiting as f64 / 1e6,
        );
        cost
    }
}

/// Bytes for so many indexes, updates and other messages.
fn bytes(states: u64, updates: u64, others: u64) -> u64 {
    states * (SMALL_SIZE + INDEX_ENTRY_SIZE * ENTRY_COUNT as u64)
        + updates * (ENTRY_SIZE as u64 + UPDATE_OVERHEAD)
        + others * SMALL_SIZE
}

#[test]
fn members_that_come_one_by_one() {
    for size in SIZES {
        let mut cluster = Cluster::new(size);
        for index in 0..size {
            cluster.join(index);
            cluster.settle();
        }
        let cost = cluster.told("one by one");
        let size = size as u64;
        assert!(cost.waiting as u64 <= bytes(size, ENTRY_COUNT as u64, 2));
        // A member that is alone has nobody to announce anything to.
        let states = size * (size + 1) / 2 - 1;
        assert_eq!(cost.count(MessageKind::State), states);
        let updates = cost.count(MessageKind::Update);
        assert!(updates <= (size - 1) * ENTRY_COUNT as u64);
        assert!(cost.bytes <= bytes(states, updates, 2 * size));
    }
}

#[test]
fn members_that_come_all_at_once() {
    for size in SIZES {
        let mut cluster = Cluster::new(size);
        (0..size).for_each(|index| cluster.join(index));
        cluster.settle();
        let cost = cluster.told("all at once");
        let size = size as u64;
        // All of them come before the first one has begun an exchange, so there is one.
        assert_eq!(cost.count(MessageKind::SyncStart), 1);
        assert_eq!(cost.count(MessageKind::State), size);
        let updates = cost.count(MessageKind::Update);
        assert_eq!(updates, ENTRY_COUNT as u64, "each entry once");
        assert!(cost.bytes <= bytes(size, updates, 2));
        assert!(cost.waiting as u64 <= bytes(size, updates, 2));
    }
}

#[test]
fn halves_that_part_and_meet() {
    for size in SIZES {
        let mut cluster = Cluster::joined(size);
        cluster.partition(|index| index % 2);
        cluster.settle();
        let cost = cluster.told("parted in halves");
        assert_eq!(cost.count(MessageKind::State), size as u64);
        assert_eq!(cost.count(MessageKind::Update), 0);
        cluster.write(0);
        cluster.write(0);
        while cluster.nodes.iter().any(|node| !node.inbox.is_empty()) {
            cluster.turn();
        }
        cluster.cost = Cost::default();
        cluster.partition(|_| 0);
        cluster.settle();
        let cost = cluster.told("halves that meet");
        let size = size as u64;
        assert_eq!(cost.count(MessageKind::State), size);
        assert_eq!(cost.count(MessageKind::Update), 2, "the file and the root");
        assert!(cost.bytes <= bytes(size, 2, 2));
        assert!(cost.waiting as u64 <= bytes(size, 2, 2));
    }
}

#[test]
fn a_member_that_is_slow() {
    for size in SIZES {
        let mut cluster = Cluster::joined(size);
        cluster.nodes[size - 1].is_slow = true;
        for index in 0..size {
            cluster.write(index);
        }
        cluster.turn();
        let others = cluster.nodes[..size - 1].iter();
        let waits = others.filter(|node| node.machine.status().pending_count > 0);
        assert_eq!(waits.count(), 0, "nobody waits for a slow member");
        cluster.settle();
        let cost = cluster.told("writes beside a slow one");
        assert_eq!(cost.count(MessageKind::Normal), size as u64);
        assert_eq!(cost.messages.len(), 1);
    }
}
