//! Hosts, their daemons, both groups, and the steps that move them.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{Event, Machine, MemberId, Mode, QuorumView, RequestId},
    database::Database,
    status::{StatusGroup, StatusRequest},
    wire::{Epoch, MessageKind, NormalMessage, StateMessage},
};
use pmxcfs_memdb::{Operation, Stamp, Tree};

use super::{
    disk::{Disk, Saved},
    group::{Group, What},
    network::Network,
    peer::{CDatabase, CStatus, Peer},
    probe::Probe,
    replica::Replica,
    soft::Soft,
    step::{Channel, Injection, Step},
};

pub(crate) type DatabaseChannel = Group<Database<Disk>, CDatabase>;
pub(crate) type StatusChannel = Group<StatusGroup<Soft>, CStatus>;

/// What a process of a node waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) node: usize,
    pub(crate) member: MemberId,
    pub(crate) operation: Operation,
    /// How often hosts had found or lost each other then.
    pub(crate) regroup_count: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) id: RequestId,
    pub(crate) asked: Asked,
    pub(crate) result: Result<u32, FsError>,
}

pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) database: DatabaseChannel,
    pub(crate) status: StatusChannel,
    /// Which daemon is installed.
    pub(crate) is_ours: Vec<bool>,
    /// What the last process left on each disk.
    disks: Vec<Option<Saved>>,
    pub(crate) pending: BTreeMap<RequestId, Asked>,
    pub(crate) answered: Vec<Answered>,
    /// Nodes whose disk was emptied, until somebody takes them.
    pub(crate) emptied: Vec<usize>,
    has_status: bool,
    /// What daemons under test keep for a synchronisation, in bytes.
    pub(crate) backlog_limit: usize,
    last_pid: u32,
    last_request: u64,
    injected_count: u32,
}

impl Cluster {
    pub(crate) fn new(count: usize, has_status: bool) -> Self {
        Self {
            network: Network::new(count),
            database: Group::new("", count),
            status: Group::new(" status", count),
            is_ours: vec![true; count],
            disks: vec![None; count],
            pending: BTreeMap::new(),
            answered: Vec::new(),
            emptied: Vec::new(),
            has_status,
            backlog_limit: 64 * 1024 * 1024,
            last_pid: 100,
            last_request: 0,
            injected_count: 0,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.network.hosts.len()
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.database.members[node].is_some()
    }

    pub(crate) fn mode(&self, node: usize) -> Option<Mode> {
        self.database.mode(node)
    }

    pub(crate) fn disk(&self, node: usize) -> Option<&Disk> {
        Some(match &self.database.members[node].as_ref()?.replica {
            Replica::Ours(machine) => machine.app().app.store(),
            Replica::Peer(peer) => &peer.app.disk,
        })
    }

    pub(crate) fn disk_mut(&mut self, node: usize) -> Option<&mut Disk> {
        Some(match &mut self.database.members[node].as_mut()?.replica {
            Replica::Ours(machine) => machine.app_mut().app.store_mut(),
            Replica::Peer(peer) => &mut peer.app.disk,
        })
    }

    pub(crate) fn tree(&self, node: usize) -> Option<&Tree> {
        Some(&self.disk(node)?.tree)
    }

    pub(crate) fn soft(&self, node: usize) -> Option<&Soft> {
        Some(match &self.status.members[node].as_ref()?.replica {
            Replica::Ours(machine) => machine.app().app.store(),
            Replica::Peer(peer) => &peer.app.soft,
        })
    }

    pub(crate) fn soft_mut(&mut self, node: usize) -> Option<&mut Soft> {
        Some(match &mut self.status.members[node].as_mut()?.replica {
            Replica::Ours(machine) => machine.app_mut().app.store_mut(),
            Replica::Peer(peer) => &mut peer.app.soft,
        })
    }

    /// Whether a node's quorum service has something new to tell.
    pub(crate) fn is_quorum_news(&self, node: usize) -> bool {
        let host = &self.network.hosts[node];
        self.runs(node) && host.quorum_told != host.quorum
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Start { node, is_empty } => self.start(*node, *is_empty),
            Step::Install { node, is_ours } => {
                if !self.runs(*node) {
                    self.is_ours[*node] = *is_ours;
                }
            }
            Step::Crash(node) => self.crash(*node),
            Step::KillCorosync { node, lost } => self.kill_corosync(*node, *lost),
            Step::StartCorosync(node) => self.start_corosync(*node),
            Step::CrashHost { node, lost } => {
                self.kill_corosync(*node, *lost);
                self.crash(*node);
            }
            Step::Stop(node) => self.network.hosts[*node].is_stopped = self.runs(*node),
            Step::Continue(node) => self.network.hosts[*node].is_stopped = false,
            Step::Congest { node, capacity } => self.network.hosts[*node].capacity = *capacity,
            Step::GatherNext(node) => self.network.hosts[*node].gathers_next = true,
            Step::InterruptNext(node) => self.network.hosts[*node].interrupts_next = true,
            Step::Order { node, channel } => match channel {
                Channel::Database => self.database.order(&self.network, *node),
                Channel::Status => self.status.order(&self.network, *node),
            },
            Step::Deliver {
                node,
                channel,
                count,
            } => (0..*count).for_each(|_| self.deliver(*node, *channel)),
            Step::Tick(node) => self.tick(*node),
            Step::Later(ms) => self.network.now_ms += ms,
            Step::Partition {
                sides,
                lost,
                in_steps,
            } => self.partition(sides, *lost, *in_steps),
            Step::Ghost { node, channel } => self.add_ghost(*node, *channel),
            Step::Quorum(node) => self.tell_quorum(*node),
            Step::BreakDisk { node, after } => self.break_disk(*node, *after),
            Step::MendDisk(node) => self.mend_disk(*node),
            Step::Clock { node, offset_secs } => {
                self.network.hosts[*node].clock_offset_secs = *offset_secs;
            }
            Step::SlowDisk { node, ms } => self.network.hosts[*node].disk_ms = *ms,
            Step::Ask { node, operation } => self.ask(*node, operation),
            Step::Set { node, key, value } => self.set(*node, key, value),
            Step::Log { node, text } => self.log(*node, text),
            Step::Inject { node, what } => self.inject(*node, *what),
            Step::Corrupt { node, path } => self.corrupt(*node, path),
        }
    }

    fn start(&mut self, node: usize, is_empty: bool) {
        if self.runs(node) {
            return;
        }
        self.last_pid += 1;
        let id = MemberId {
            node: node as u32 + 1,
            pid: self.last_pid,
        };
        if is_empty {
            self.disks[node] = None;
        }
        if self.disks[node].is_none() {
            self.emptied.push(node);
        }
        let wall_secs = self.network.wall_secs(node);
        let saved = self.disks[node].take();
        let saved = saved.unwrap_or_else(|| Saved::fresh(wall_secs));
        let disk = Disk::new(saved.load(self.network.now_ms / 1000));
        let is_ours = self.is_ours[node];
        let replica = if is_ours {
            let app = Probe::new(Database::new(disk, Box::new(drop)));
            Replica::Ours(Machine::with_backlog_limit(app, self.backlog_limit))
        } else {
            Replica::Peer(Peer::new(CDatabase::new(disk)))
        };
        self.database.start(&self.network, node, id, replica);
        if self.has_status {
            let soft = Soft::new(node, wall_secs, is_ours);
            let replica = if is_ours {
                Replica::Ours(Machine::new(Probe::new(StatusGroup::new(soft))))
            } else {
                Replica::Peer(Peer::new(CStatus { soft }))
            };
            self.status.start(&self.network, node, id, replica);
        }
        let host = &mut self.network.hosts[node];
        host.is_stopped = false;
        host.quorum_told = QuorumView::default();
        host.busy_until_ms = 0;
        self.tell_quorum(node);
    }

    fn crash(&mut self, node: usize) {
        let Some(disk) = self.disk(node) else { return };
        self.disks[node] = Some(disk.saved());
        self.network.tell(|| format!("{}: crashes", node + 1));
        self.pending.retain(|_, asked| asked.node != node);
        self.network.hosts[node].is_stopped = false;
        self.database.end(node);
        self.status.end(node);
    }

    fn kill_corosync(&mut self, node: usize, lost: usize) {
        if !self.network.hosts[node].is_corosync_up {
            return;
        }
        self.network.hosts[node].is_corosync_up = false;
        self.database.lose(node);
        self.status.lose(node);
        self.regroup(lost, false);
    }

    fn start_corosync(&mut self, node: usize) {
        self.network.hosts[node].is_corosync_up = true;
        self.regroup(0, false);
    }

    fn partition(&mut self, sides: &[usize], lost: usize, in_steps: bool) {
        self.network.tell(|| format!("partitions {sides:?}"));
        for (host, side) in self.network.hosts.iter_mut().zip(sides) {
            host.component = *side;
        }
        self.regroup(lost, in_steps);
    }

    fn regroup(&mut self, lost: usize, in_steps: bool) {
        self.network.find_quorum();
        self.network.regroup_count += 1;
        self.network.regrouped_ms = self.network.now_ms;
        self.database.cpg.regroup(&self.network, lost, in_steps);
        self.status.cpg.regroup(&self.network, lost, in_steps);
    }

    /// The quorum is looked at before anything is delivered, if the story does not want it otherwise.
    fn deliver(&mut self, node: usize, channel: Channel) {
        match channel {
            Channel::Database => self.database.deliver(&mut self.network, node),
            Channel::Status => self.status.deliver(&mut self.network, node),
        }
        self.settle(node);
    }

    fn tick(&mut self, node: usize) {
        self.database.tick(&mut self.network, node);
        self.status.tick(&mut self.network, node);
        self.settle(node);
    }

    fn tell_quorum(&mut self, node: usize) {
        if !self.is_quorum_news(node) || !self.network.is_awake(node) {
            return;
        }
        let host = &mut self.network.hosts[node];
        let view = host.quorum.clone();
        host.quorum_told = view.clone();
        let event = Event::Quorum(view.clone());
        self.database
            .feed(&mut self.network, node, What::Other, event);
        let event = Event::Quorum(view);
        self.status
            .feed(&mut self.network, node, What::Other, event);
        self.settle(node);
    }

    /// Answers find who waits for them; a slow disk delays what comes next.
    fn settle(&mut self, node: usize) {
        for fed in &mut self.database.fed {
            for (id, result) in fed.answers.drain(..) {
                let asked = self.pending.remove(&id).expect("a request has one answer");
                assert_eq!(asked.node, fed.node, "the answer comes where it was asked");
                self.answered.push(Answered { id, asked, result });
            }
        }
        let now_ms = self.network.now_ms;
        let disk_ms = self.network.hosts[node].disk_ms;
        if let Some(disk) = self.disk_mut(node)
            && std::mem::take(&mut disk.replaced_count) > 0
        {
            self.network.hosts[node].busy_until_ms = now_ms + disk_ms;
        }
    }

    fn add_ghost(&mut self, node: usize, channel: Channel) {
        let component = self.network.hosts[node].component;
        let ghost = MemberId {
            node: node as u32 + 1,
            pid: 99,
        };
        let cpg = match channel {
            Channel::Database => &mut self.database.cpg,
            Channel::Status => &mut self.status.cpg,
        };
        if cpg.ghosts.is_empty() {
            cpg.add_ghost(&self.network, component, ghost);
        }
    }

    fn break_disk(&mut self, node: usize, after: u32) {
        if let Some(disk) = self.disk_mut(node) {
            match after {
                0 => disk.fail(),
                after if !disk.is_failed => disk.changes_left = Some(after - 1),
                _ => {}
            }
        }
    }

    fn mend_disk(&mut self, node: usize) {
        if !self.is_ours[node] {
            return;
        }
        let Some(disk) = self.disk_mut(node) else {
            return;
        };
        let was_failed = disk.is_failed;
        disk.mend();
        if was_failed || self.mode(node) == Some(Mode::Error) {
            self.database
                .feed(&mut self.network, node, What::Other, Event::Mended);
            self.settle(node);
        }
    }

    fn ask(&mut self, node: usize, operation: &Operation) {
        let Some(member) = &self.database.members[node] else {
            return;
        };
        if !self.network.is_awake(node) || member.replica.is_stuck() {
            return;
        }
        let member = member.id;
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let asked = Asked {
            node,
            member,
            operation: operation.clone(),
            regroup_count: self.network.regroup_count,
        };
        self.pending.insert(id, asked);
        self.network
            .tell(|| format!("{}: request {} {}", node + 1, id.0, describe(operation)));
        self.database
            .ask(&mut self.network, node, id, operation.clone());
        self.settle(node);
    }

    fn set(&mut self, node: usize, key: &str, value: &str) {
        let (key, value) = (
            Bytes::copy_from_slice(key.as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        );
        if !self.takes_status(node) {
            return;
        }
        let Some(soft) = self.soft_mut(node) else {
            return;
        };
        soft.set_own(&key, &value);
        self.ask_status(node, StatusRequest::Set { key, value });
    }

    fn log(&mut self, node: usize, text: &str) {
        let time_secs = self.network.wall_secs(node);
        if !self.takes_status(node) {
            return;
        }
        let Some(soft) = self.soft_mut(node) else {
            return;
        };
        let entry = soft.log_own(time_secs, text);
        self.ask_status(node, StatusRequest::Log { entry });
    }

    fn takes_status(&self, node: usize) -> bool {
        let member = self.status.members[node].as_ref();
        self.network.is_awake(node) && member.is_some_and(|member| !member.replica.is_stuck())
    }

    fn ask_status(&mut self, node: usize, request: StatusRequest) {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.status.ask(&mut self.network, node, id, request);
    }

    /// A message that comes from the node's process, though the daemon did not send it.
    fn inject(&mut self, node: usize, what: Injection) {
        let Some(connection) = self.database.cpg.connection(node) else {
            return;
        };
        let id = connection.id;
        self.injected_count += 1;
        let epoch = Epoch {
            number: self.injected_count,
            time_secs: 7,
            node: id.node,
            pid: 77,
        };
        let state = |kind| StateMessage::new(kind, 1, 7, epoch, Bytes::new()).encode();
        let normal = |protocol, subtype| {
            let payload = Bytes::from_static(b"no operation at all has these bytes");
            NormalMessage::new(protocol, subtype, 7, 0, payload).encode()
        };
        let message = match what {
            Injection::Short => Bytes::from_static(b"short"),
            Injection::Lengths => normal(1, 2),
            Injection::Subtype => normal(1, 99),
            Injection::SyncStart => state(MessageKind::SyncStart),
            Injection::StaleState => state(MessageKind::State),
            Injection::StaleComplete => state(MessageKind::UpdateComplete),
            Injection::NewerProtocol => normal(2, 2),
            Injection::OlderProtocol => normal(0, 2),
        };
        self.database.cpg.send(node, message);
    }

    fn corrupt(&mut self, node: usize, path: &str) {
        let path = Bytes::copy_from_slice(path.as_bytes());
        let stamp = Stamp {
            writer: 0,
            mtime: 1,
        };
        // In the middle of an exchange it would make a state untrue that was announced.
        if self.mode(node) != Some(Mode::Synced) {
            return;
        }
        if let Some(disk) = self.disk_mut(node) {
            let made = Operation::Mkdir { path };
            disk.tree
                .apply(&made, stamp, 0, &mut Vec::new())
                .expect("the name is free");
        }
    }
}

/// An operation as a step has it, without the node.
fn describe(operation: &Operation) -> String {
    let step = Step::Ask {
        node: 0,
        operation: operation.clone(),
    };
    let line = step.to_string();
    let words: Vec<&str> = line.split(' ').collect();
    [&words[..1], &words[2..]].concat().join(" ")
}
