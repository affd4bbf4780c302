//! Recorded lives of C clusters, replayed through the cluster log of each node: what it logs has the same numbers, and each
//! state that it sends has the same entries in the same order.
#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a recording are small"
)]

mod support;

#[expect(dead_code, reason = "databases are replayed elsewhere")]
#[path = "sequences/recording.rs"]
mod recording;

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::NodeId;
use pmxcfs_dfsm::core::MemberId;
use pmxcfs_dfsm::status::wire::LOG;
use pmxcfs_dfsm::wire::{Header, MessageKind, NormalMessage, StateMessage};
use pmxcfs_logger::{ClusterLog, Entry, EntryView, Origin, RingView, Submission};

use recording::{Recording, Seen};
use support::vectors;

/// One daemon from its start to its end.
struct Life {
    me: MemberId,
    log: ClusterLog,
    members: Vec<MemberId>,
    states: BTreeMap<MemberId, Bytes>,
    logged_count: usize,
    compared_count: usize,
}

/// What is the same on all members: all but the places in a ring.
fn shown(entry: EntryView<'_>) -> String {
    let texts = [entry.node(), entry.ident(), entry.tag(), entry.message()];
    let texts = texts.map(|text| text.escape_ascii().to_string());
    format!("{} {} {} {texts:?}", entry.uid, entry.time, entry.pid)
}

/// A client's message as it was before it was escaped, as far as it matters to escaping it again.
fn unescaped(message: &[u8]) -> Vec<u8> {
    String::from_utf8(message.to_vec())
        .unwrap()
        .replace("\\\"", "\"")
        .into_bytes()
}

impl Life {
    /// A daemon that has just started. Its first entry is in the first state that it sends.
    fn start(me: MemberId, ahead: &[(f64, Seen)]) -> Self {
        let first = ahead.iter().find_map(|(_, event)| match event {
            Seen::Sent { message, .. } => state_of(message),
            _ => None,
        });
        let mut log = ClusterLog::new(format!("node{}", me.node).as_bytes());
        if let Some(state) = first {
            let ring = RingView::decode(&state).unwrap();
            let mut entries = ring.walk().map(|step| step.entry);
            let start = entries
                .find(|entry| entry.pid == me.pid && entry.message() == b"starting cluster log");
            log.log_start(start.unwrap().time, me.pid);
        }
        Self {
            me,
            log,
            members: Vec::new(),
            states: BTreeMap::new(),
            logged_count: 0,
            compared_count: 0,
        }
    }

    fn sent(&mut self, message: &Bytes) {
        if let Some(state) = state_of(message) {
            let recorded = RingView::decode(&state).unwrap();
            let recorded: Vec<String> = recorded.walk().map(|step| shown(step.entry)).collect();
            let own = self.log.state();
            let own: Vec<String> = RingView::decode(&own)
                .unwrap()
                .walk()
                .map(|step| shown(step.entry))
                .collect();
            assert_eq!(own, recorded, "state of {}", self.me);
            self.compared_count += 1;
        } else if let Some(entry) = entry_of(message) {
            let entry = entry.view();
            let message = unescaped(entry.message());
            let logged = self.log.log(
                entry.time,
                &Submission {
                    priority: entry.priority,
                    pid: entry.pid,
                    ident: entry.ident(),
                    tag: entry.tag(),
                    message: &message,
                },
            );
            assert_eq!(shown(logged.unwrap().view()), shown(entry), "{}", self.me);
            self.logged_count += 1;
        }
    }

    fn delivered(&mut self, sender: MemberId, message: &Bytes) {
        let kind = Header::decode(message).unwrap().kind;
        if kind == MessageKind::SyncStart {
            self.states.clear();
        } else if let Some(state) = state_of(message) {
            self.states.insert(sender, state);
            if self.states.len() == self.members.len() {
                let states: Vec<Option<&[u8]>> =
                    self.states.values().map(|state| Some(&state[..])).collect();
                let own = self.members.iter().position(|member| *member == self.me);
                let report = self.log.merge(&states, own.unwrap());
                assert_eq!((report.rejected, report.renumbered), (vec![], vec![]));
                self.states.clear();
            }
        } else if sender != self.me
            && let Some(entry) = entry_of(message)
        {
            let origin = Origin {
                node: NodeId(sender.node),
                pid: sender.pid,
            };
            assert!(self.log.receive(&entry, Some(origin)));
        }
    }
}

fn state_of(message: &Bytes) -> Option<Bytes> {
    let is_state = Header::decode(message).ok()?.kind == MessageKind::State;
    is_state.then(|| StateMessage::decode(message).unwrap().payload)
}

fn entry_of(message: &Bytes) -> Option<Entry> {
    let message = NormalMessage::decode(message).ok()?;
    let is_log = message.header.kind == MessageKind::Normal && message.header.subtype == LOG;
    is_log.then(|| Entry::decode(&message.payload).unwrap())
}

/// Replays one node; how many entries it logged and how many states were compared.
fn replay(recording: &Recording) -> (usize, usize) {
    let events = recording.group("pve_kvstore_v1");
    let mut life: Option<Life> = None;
    let mut counts = (0, 0);
    for (index, (_, event)) in events.iter().enumerate() {
        match event {
            Seen::Membership { members, .. } => {
                let me = members.iter().find(|member| member.node == recording.node);
                let Some(me) = me else { continue };
                let former = life.take().filter(|former| former.me == *me);
                let mut current = former.unwrap_or_else(|| Life::start(*me, &events[index..]));
                current.members.clone_from(members);
                current.members.sort();
                current.states.clear();
                life = Some(current);
            }
            Seen::Sent {
                message,
                is_blocked,
            } if !is_blocked => {
                if let Some(life) = &mut life {
                    life.sent(message);
                    counts.0 += std::mem::take(&mut life.logged_count);
                    counts.1 += std::mem::take(&mut life.compared_count);
                }
            }
            Seen::Delivered { sender, message } => {
                if let Some(life) = &mut life {
                    life.delivered(*sender, message);
                }
            }
            _ => {}
        }
    }
    counts
}

#[test]
fn logs_have_the_ids_and_the_order_of_recorded_clusters() {
    let mut counts = (0, 0);
    for name in recording::sequences(&vectors().join("sequences")) {
        for node in recording::nodes(&name) {
            eprintln!("{} node {node}", name.display());
            let (logged, compared) = replay(&Recording::load(&name, node));
            counts = (counts.0 + logged, counts.1 + compared);
        }
    }
    assert!(counts.0 >= 6 && counts.1 >= 50, "{counts:?}");
}
