//! A member joins while the others write as fast as the ring takes it: what it keeps is bounded, it is synchronised soon,
//! and nobody else leaves.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and uses a part of the simulation"
)]

#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use disk::{Disk, Saved};
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{Action, Event, Machine, MemberId, Mode, Now, QuorumView, RequestId},
    database::{Database, wire::OperationMessage},
    wire::NormalMessage,
};
use pmxcfs_memdb::{Operation, Stamp};

/// The real bound and real messages, each made smaller by the same factor of 32.
const LIMIT: usize = 2 * 1024 * 1024;
const WRITE_SIZE: usize = 32 * 1024;

/// Bytes that each member may put on the ring in a millisecond.
const SHARE: usize = 64 * 1024;

/// Writes that the processes of a node wait for at once.
const WRITERS: usize = 8;

const JOINER: usize = 3;

struct Node {
    id: MemberId,
    machine: Machine<Database<Disk>>,
    outgoing: VecDeque<Bytes>,
    /// Bytes of the first outgoing message that are on the ring.
    sent_size: usize,
    is_member: bool,
    join_at_ms: Option<u64>,
    delays: Vec<u64>,
    log: Vec<String>,
    asked_ms: BTreeMap<u64, u64>,
    request_count: u64,
    slowest_ms: u64,
}

struct Ring {
    nodes: Vec<Node>,
    now_ms: u64,
    /// Members do not leave by themselves but this one.
    left: Vec<usize>,
}

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn write(name: &str, byte: u8) -> Operation {
    Operation::Write {
        path: path(name),
        offset: 0,
        data: Bytes::from(vec![byte; WRITE_SIZE]),
        truncate: false,
    }
}

impl Ring {
    /// Three members with this many entries of 620 bytes, and one that is empty and does not run yet.
    fn new(entry_count: usize) -> Self {
        let stamp = Stamp {
            writer: 1,
            mtime: 1,
        };
        let mut disk = Disk::new(Saved::fresh(1).load(0));
        let mut make = |operation| {
            let tree = &mut disk.tree;
            tree.apply(&operation, stamp, 0, &mut Vec::new()).unwrap();
        };
        for number in 0..entry_count {
            let path = path(&format!("f{number}"));
            make(Operation::Create { path: path.clone() });
            make(Operation::Write {
                path,
                offset: 0,
                data: Bytes::from(vec![b'x'; 620]),
                truncate: false,
            });
        }
        for node in 0..JOINER {
            make(Operation::Create {
                path: path(&format!("load{node}")),
            });
        }
        let full = Saved::of(&disk.tree);
        let node = |index: usize| {
            let saved = match index {
                JOINER => Saved::fresh(1),
                _ => full.clone(),
            };
            let app = Database::new(Disk::new(saved.load(0)), Box::new(drop));
            Node {
                id: MemberId {
                    node: index as u32 + 1,
                    pid: 1,
                },
                machine: Machine::with_backlog_limit(app, LIMIT),
                outgoing: VecDeque::new(),
                sent_size: 0,
                is_member: false,
                join_at_ms: None,
                delays: Vec::new(),
                log: Vec::new(),
                asked_ms: BTreeMap::new(),
                request_count: 0,
                slowest_ms: 0,
            }
        };
        let mut ring = Self {
            nodes: (0..=JOINER).map(node).collect(),
            now_ms: 0,
            left: Vec::new(),
        };
        for index in 0..=JOINER {
            ring.feed(
                index,
                Event::Quorum(QuorumView::default().followed_by(true, [])),
            );
        }
        for index in 0..JOINER {
            ring.join(index);
        }
        ring.run_until("three members are synced", |ring| {
            (0..JOINER).all(|index| ring.nodes[index].machine.mode() == Mode::Synced)
        });
        ring
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_secs: (self.now_ms / 1000) as u32,
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        let now = self.now();
        let node = &mut self.nodes[index];
        let actions = node.machine.handle(now, event);
        self.carry_out(index, actions);
    }

    fn ask(&mut self, index: usize, operation: Operation) {
        let now = self.now();
        let node = &mut self.nodes[index];
        node.request_count += 1;
        let id = RequestId(node.request_count);
        node.asked_ms.insert(id.0, now.monotonic_ms);
        let caller = node.machine.app().store().answers.client(id, operation);
        let actions = node.machine.request(now, caller);
        self.carry_out(index, actions);
    }

    fn carry_out(&mut self, index: usize, mut actions: Vec<Action>) {
        let node = &mut self.nodes[index];
        actions.extend(node.machine.settle());
        node.machine.flush();
        for (id, result) in node.machine.app().store().answers.take() {
            assert_eq!(result.map(|_| ()), Ok::<(), FsError>(()), "node {index}");
            let asked_ms = node.asked_ms.remove(&id.0).unwrap();
            node.slowest_ms = node.slowest_ms.max(self.now_ms - asked_ms);
        }
        for action in actions {
            match action {
                Action::Multicast(message) => node.outgoing.push_back(message),
                Action::Leave => self.left.push(index),
                Action::Join { delay_ms } => {
                    node.delays.push(delay_ms);
                    node.join_at_ms = Some(self.now_ms + delay_ms);
                }
                Action::Log { text, .. } => node.log.push(text),
            }
        }
    }

    fn join(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.is_member = true;
        node.join_at_ms = None;
        let local = node.id;
        self.feed(index, Event::Connected { local });
        self.regroup(true);
    }

    fn regroup(&mut self, has_joined: bool) {
        let present = self.nodes.iter().filter(|node| node.is_member);
        let members: Vec<MemberId> = present.map(|node| node.id).collect();
        for index in self.members() {
            let members = members.clone();
            self.feed(
                index,
                Event::Membership {
                    members,
                    has_joined,
                },
            );
        }
    }

    fn members(&self) -> Vec<usize> {
        let indexes = 0..self.nodes.len();
        indexes
            .filter(|index| self.nodes[*index].is_member)
            .collect()
    }

    /// One millisecond: every member puts its share on the ring, and everybody receives what is complete.
    fn turn(&mut self) {
        self.now_ms += 1;
        for index in self.members() {
            let node = &mut self.nodes[index];
            node.sent_size += SHARE;
            let mut complete = Vec::new();
            while let Some(first) = node.outgoing.front()
                && first.len() <= node.sent_size
            {
                node.sent_size -= first.len();
                complete.extend(node.outgoing.pop_front());
            }
            if node.outgoing.is_empty() {
                node.sent_size = 0;
            }
            let sender = node.id;
            for message in complete {
                for receiver in self.members() {
                    let message = message.clone();
                    self.feed(receiver, Event::Delivered { sender, message });
                }
                self.let_go();
            }
        }
        for index in 0..self.nodes.len() {
            if self.now_ms.is_multiple_of(1000) {
                self.feed(index, Event::Tick);
            }
            let join_at_ms = self.nodes[index].join_at_ms;
            if join_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
                self.join(index);
            }
        }
        self.let_go();
    }

    /// Those who want to leave are members no more.
    fn let_go(&mut self) {
        while let Some(index) = self.left.pop() {
            assert_eq!(index, JOINER, "{:?}", self.nodes[index].log);
            let node = &mut self.nodes[index];
            node.is_member = false;
            node.outgoing.clear();
            node.sent_size = 0;
            self.regroup(false);
        }
    }

    fn run_until(&mut self, what: &str, is_reached: impl Fn(&Self) -> bool) {
        let deadline_ms = self.now_ms + 120_000;
        while !is_reached(self) {
            assert!(self.now_ms < deadline_ms, "{what}");
            self.turn();
        }
    }

    /// Keeps all writers of a synced node busy.
    fn write_at_full_rate(&mut self, index: usize) {
        while self.nodes[index].asked_ms.len() < WRITERS {
            let byte = self.nodes[index].request_count as u8;
            self.ask(index, write(&format!("load{index}"), byte));
        }
    }

    fn is_synced(&self, index: usize) -> bool {
        self.nodes[index].machine.mode() == Mode::Synced
    }

    fn assert_equal_trees(&self) {
        let index = |node: &Node| node.machine.app().store().tree.index();
        let first = index(&self.nodes[0]);
        for node in &self.nodes {
            assert!(index(node) == first, "{}", node.id);
        }
    }
}

#[test]
fn a_member_joins_while_three_write_at_full_rate() {
    let mut ring = Ring::new(2000);
    ring.join(JOINER);
    let started_ms = ring.now_ms;
    while !ring.is_synced(JOINER) {
        for index in 0..JOINER {
            ring.write_at_full_rate(index);
        }
        ring.turn();
        assert!(ring.now_ms - started_ms < 30_000, "it is never synced");
    }
    let took_ms = ring.now_ms - started_ms;
    let joiner = &ring.nodes[JOINER];
    assert!(joiner.delays.len() <= 2, "three tries: {:?}", joiner.log);
    ring.run_until("all writes are answered", |ring| {
        ring.nodes.iter().all(|node| node.asked_ms.is_empty())
    });
    for node in &ring.nodes {
        assert!(
            node.slowest_ms <= took_ms + 1000,
            "a write took {} ms, the join {took_ms} ms",
            node.slowest_ms
        );
    }
    ring.assert_equal_trees();
}

/// C daemons do not wait for the one that joins.
#[test]
fn a_flood_makes_only_the_one_leave_that_is_not_synced() {
    let mut ring = Ring::new(2000);
    let operation = write("load1", b'c');
    let message = OperationMessage::new(&operation).unwrap();
    let mut count = 1000;
    ring.join(JOINER);
    while ring.nodes[JOINER].delays.len() < 4 {
        for _ in 0..6 {
            count += 1;
            let payload = message.encode();
            let normal = NormalMessage::new(1, message.kind as u16, 1, count, payload);
            ring.nodes[1].outgoing.push_back(normal.encode());
            ring.nodes[1].sent_size += WRITE_SIZE;
        }
        ring.turn();
        assert!(ring.now_ms < 60_000, "{:?}", ring.nodes[JOINER].log);
    }
    let joiner = &ring.nodes[JOINER];
    let reason = "messages of 2 MiB came during the synchronisation, at most 2 MiB are kept";
    let told = joiner.log.iter().filter(|line| *line == reason);
    assert_eq!(told.count(), 4, "{:?}", joiner.log);
    assert!(
        joiner.delays.is_sorted_by(|a, b| a < b),
        "{:?}",
        joiner.delays
    );
    for node in &ring.nodes[..JOINER] {
        assert_eq!(node.delays, [0; 0], "{:?}", node.log);
    }

    ring.run_until("it is synced when the flood has ended", |ring| {
        ring.is_synced(JOINER) && ring.nodes[1].outgoing.is_empty()
    });
    ring.run_until("all are synced", |ring| {
        (0..=JOINER).all(|index| ring.is_synced(index))
    });
    ring.assert_equal_trees();
}
