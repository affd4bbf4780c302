//! A whole cluster in one thread.
//!
//! The simulated CPG keeps what the real one promises: within a partition there is one order of messages and membership
//! changes, and all who go from one membership to the next together have received the same before it. Everything else is
//! up to the caller: who runs next, what is lost with a crash, when corosync asks to try again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{Action, Actions, Event, Machine, MemberId, Mode, Now, RequestId},
    database::{Database, DatabaseRequest, TreeStore},
};
use pmxcfs_memdb::{Change, Entry, Operation, ROOT_INODE, RootState, Rules, Tree};

/// A tree whose every change is on disk at once.
pub(crate) struct Disk {
    pub(crate) tree: Tree,
    pub(crate) is_failed: bool,
}

impl TreeStore for Disk {
    fn change<R>(&mut self, call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R) -> R {
        call(&mut self.tree, &mut Vec::new())
    }

    fn replace(&mut self, mut tree: Tree, _touched: &[u64]) -> Result<(), String> {
        if self.is_failed {
            return Err("no space on disk".to_owned());
        }
        tree.adopt(&mut self.tree);
        self.tree = tree;
        Ok(())
    }

    fn is_failed(&self) -> bool {
        self.is_failed
    }
}

/// One delivery of CPG.
#[derive(Debug, Clone)]
pub(crate) enum Arrival {
    Message { sender: MemberId, message: Bytes },
    View { id: u64, members: Vec<MemberId> },
}

/// A running daemon.
pub(crate) struct Process {
    pub(crate) machine: Machine<Database<Disk>>,
    pub(crate) id: MemberId,
    pub(crate) is_joined: bool,
    pub(crate) inbox: VecDeque<Arrival>,
    /// Sent and not yet ordered.
    pub(crate) outgoing: VecDeque<Bytes>,
    /// The view it is in, and how many messages it has seen there.
    pub(crate) position: (u64, u64),
    view: Vec<MemberId>,
    pub(crate) join_at_ms: Option<u64>,
}

pub(crate) struct Node {
    pub(crate) process: Option<Process>,
    /// What the last process left on disk.
    disk: Option<(RootState, Vec<Entry>)>,
    pub(crate) partition: usize,
    pub(crate) is_stopped: bool,
    pub(crate) clock_offset_secs: u32,
    is_quorate_told: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) node: usize,
    pub(crate) operation: Operation,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now_ms: u64,
    pub(crate) pending: BTreeMap<RequestId, Asked>,
    pub(crate) answers: Vec<(Asked, Result<u32, FsError>)>,
    /// Listed processes that do not exist, by partition.
    pub(crate) ghosts: Vec<(usize, MemberId)>,
    /// Corosync asks to try again.
    pub(crate) is_congested: bool,
    /// Lines that tell what happened.
    pub(crate) transcript: Vec<String>,
    next_pid: u32,
    next_view: u64,
    next_request: u64,
}

impl Cluster {
    pub(crate) fn new(count: usize) -> Self {
        let node = |_| Node {
            process: None,
            disk: None,
            partition: 0,
            is_stopped: false,
            clock_offset_secs: 0,
            is_quorate_told: false,
        };
        Self {
            nodes: (0..count).map(node).collect(),
            now_ms: 1_000_000,
            pending: BTreeMap::new(),
            answers: Vec::new(),
            ghosts: Vec::new(),
            is_congested: false,
            transcript: Vec::new(),
            next_pid: 100,
            next_view: 0,
            next_request: 0,
        }
    }

    pub(crate) fn start(&mut self, node: usize, keeps_disk: bool) {
        assert!(self.nodes[node].process.is_none(), "it runs already");
        self.next_pid += 1;
        let wall_secs = self.wall_secs(node);
        let disk = self.nodes[node].disk.take().filter(|_| keeps_disk);
        let (root, entries) = disk.unwrap_or_else(|| fresh(wall_secs));
        let tree = Tree::from_entries(root, entries, Rules::Replicated, self.now_ms / 1000)
            .expect("a member's own tree loads");
        let id = MemberId {
            node: node as u32 + 1,
            pid: self.next_pid,
        };
        let disk = Disk {
            tree,
            is_failed: false,
        };
        self.nodes[node].process = Some(Process {
            machine: Machine::new(Database::new(disk)),
            id,
            is_joined: false,
            inbox: VecDeque::new(),
            outgoing: VecDeque::new(),
            position: (0, 0),
            view: Vec::new(),
            join_at_ms: Some(self.now_ms),
        });
        self.nodes[node].is_stopped = false;
        self.nodes[node].is_quorate_told = false;
        self.tell_quorum(node);
    }

    pub(crate) fn crash(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else {
            return;
        };
        self.transcript.push(format!("{}: crashes", node + 1));
        let tree = &process.machine.app().store().tree;
        self.nodes[node].disk = Some((tree.root(), entries(tree)));
        let lost: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, asked)| asked.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.pending.remove(&id);
        }
        if process.is_joined {
            self.change_view(self.nodes[node].partition);
        }
    }

    /// Gives every node its partition; all views change that are not what they were.
    pub(crate) fn partition(&mut self, partitions: &[usize]) {
        self.transcript.push(format!("partitions {partitions:?}"));
        for (node, partition) in partitions.iter().enumerate() {
            self.nodes[node].partition = *partition;
        }
        let mut all: Vec<usize> = partitions.to_vec();
        all.sort_unstable();
        all.dedup();
        self.ghosts.retain(|(partition, _)| all.contains(partition));
        for partition in all {
            self.change_view(partition);
        }
    }

    /// Whether a node's quorum service has something new to tell.
    pub(crate) fn is_quorum_news(&self, node: usize) -> bool {
        let told = self.nodes[node].is_quorate_told;
        self.nodes[node].process.is_some() && told != self.is_quorate(node)
    }

    pub(crate) fn tell_quorum(&mut self, node: usize) {
        let is_quorate = self.is_quorate(node);
        self.nodes[node].is_quorate_told = is_quorate;
        self.feed(node, Event::Quorum(is_quorate));
    }

    fn is_quorate(&self, node: usize) -> bool {
        let side = self.nodes[node].partition;
        let count = self
            .nodes
            .iter()
            .filter(|other| other.partition == side)
            .count();
        count * 2 > self.nodes.len()
    }

    /// The next message or membership change for a node.
    pub(crate) fn deliver(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        match process.inbox.pop_front() {
            None => {}
            Some(Arrival::Message { sender, message }) => {
                process.position.1 += 1;
                self.feed(node, Event::Delivered { sender, message });
            }
            Some(Arrival::View { id, members }) => {
                process.position = (id, 0);
                let has_joined = members.iter().any(|member| !process.view.contains(member));
                process.view.clone_from(&members);
                let names: Vec<String> = members.iter().map(MemberId::to_string).collect();
                self.transcript
                    .push(format!("{}: members {}", node + 1, names.join(" ")));
                self.feed(
                    node,
                    Event::Membership {
                        members,
                        has_joined,
                    },
                );
            }
        }
    }

    /// Puts the oldest unsent message of a node into the order.
    pub(crate) fn order(&mut self, node: usize) {
        let side = self.nodes[node].partition;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let sender = process.id;
        let Some(message) = process.outgoing.pop_front() else {
            return;
        };
        for other in self.joined(side) {
            let process = self.nodes[other].process.as_mut().unwrap();
            process.inbox.push_back(Arrival::Message {
                sender,
                message: message.clone(),
            });
        }
    }

    pub(crate) fn tick(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process.join_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            process.join_at_ms = None;
            process.is_joined = true;
            process.view.clear();
            let local = process.id;
            self.feed(node, Event::Connected { local });
            self.change_view(self.nodes[node].partition);
        }
        self.feed(node, Event::Tick);
    }

    pub(crate) fn ask(&mut self, node: usize, operation: Operation) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let asked = Asked {
            node,
            operation: operation.clone(),
        };
        self.pending.insert(id, asked);
        self.transcript
            .push(format!("{}: request {} {operation:?}", node + 1, id.0));
        let request = DatabaseRequest::Apply(operation);
        self.feed(node, Event::Request { id, request });
    }

    /// Corosync dies under a daemon.
    pub(crate) fn disconnect(&mut self, node: usize) {
        let side = self.nodes[node].partition;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if !process.is_joined {
            return;
        }
        process.close();
        self.feed(node, Event::Disconnected);
        self.change_view(side);
    }

    pub(crate) fn feed(&mut self, node: usize, event: Event<DatabaseRequest>) {
        let now = Now {
            monotonic_ms: self.now_ms,
            wall_secs: self.wall_secs(node),
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let mut actions = Actions::new();
        process.machine.handle(now, event, &mut actions);
        let mut unsent = Vec::new();
        for action in actions.take() {
            self.carry_out(node, action, &mut unsent);
        }
        if !unsent.is_empty() {
            self.feed(node, Event::SendBlocked { unsent });
        }
    }

    fn carry_out<N>(&mut self, node: usize, action: Action<N>, unsent: &mut Vec<Bytes>) {
        let process = self.nodes[node].process.as_mut().unwrap();
        let number = node + 1;
        match action {
            Action::Multicast(message) if self.is_congested => unsent.push(message),
            Action::Multicast(message) => {
                if process.is_joined {
                    process.outgoing.push_back(message);
                }
            }
            Action::Leave => {
                process.close();
                let side = self.nodes[node].partition;
                self.ghosts.retain(|(partition, _)| *partition != side);
                self.transcript.push(format!("{number}: leaves"));
                self.change_view(side);
            }
            Action::Join { delay_ms } => {
                process.join_at_ms = Some(self.now_ms + delay_ms);
            }
            Action::Answer { id, result } => {
                let asked = self.pending.remove(&id).expect("answered once");
                assert_eq!(asked.node, node, "answered where it was asked");
                self.transcript.push(match result {
                    Ok(value) => format!("{number}: request {} returns {value}", id.0),
                    Err(error) => format!("{number}: request {} fails: {error}", id.0),
                });
                self.answers.push((asked, result));
            }
            Action::Log { text, .. } => self.transcript.push(format!("{number}: {text}")),
            Action::Notice(_) => {}
        }
    }

    pub(crate) fn change_view(&mut self, side: usize) {
        self.next_view += 1;
        let joined = self.joined(side);
        let mut members: Vec<MemberId> = joined
            .iter()
            .map(|node| self.nodes[*node].process.as_ref().unwrap().id)
            .collect();
        let ghosts = self
            .ghosts
            .iter()
            .filter(|(partition, _)| *partition == side);
        members.extend(ghosts.map(|(_, id)| *id));
        for node in joined {
            let process = self.nodes[node].process.as_mut().unwrap();
            process.inbox.push_back(Arrival::View {
                id: self.next_view,
                members: members.clone(),
            });
        }
    }

    fn joined(&self, side: usize) -> Vec<usize> {
        let is_in = |node: &Node| {
            node.partition == side
                && node
                    .process
                    .as_ref()
                    .is_some_and(|process| process.is_joined)
        };
        (0..self.nodes.len())
            .filter(|index| is_in(&self.nodes[*index]))
            .collect()
    }

    fn wall_secs(&self, node: usize) -> u32 {
        (self.now_ms / 1000) as u32 + self.nodes[node].clock_offset_secs
    }

    pub(crate) fn tree(&self, node: usize) -> Option<&Tree> {
        let process = self.nodes[node].process.as_ref()?;
        Some(&process.machine.app().store().tree)
    }

    pub(crate) fn mode(&self, node: usize) -> Option<Mode> {
        Some(self.nodes[node].process.as_ref()?.machine.mode())
    }
}

impl Process {
    pub(crate) fn disk(&mut self) -> &mut Disk {
        self.machine.app_mut().store_mut()
    }

    /// Nothing of a closed connection reaches the group or comes from it.
    fn close(&mut self) {
        self.is_joined = false;
        self.inbox.clear();
        self.outgoing.clear();
        self.view.clear();
    }
}

pub(crate) fn entries(tree: &Tree) -> Vec<Entry> {
    let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
    entries.cloned().collect()
}

/// A new database: one directory for the clients of the simulation.
fn fresh(mtime: u32) -> (RootState, Vec<Entry>) {
    let root = RootState {
        version: 1,
        writer: 0,
        mtime,
    };
    (root, Vec::new())
}
