//! Life of the modelled daemon in one group: connection, membership, requests, time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{Event, MemberId, Mode, Now, RequestId},
    wire::{Epoch, Header, MessageKind, NormalMessage, StateMessage, VerifyMessage},
};
use pmxcfs_memdb::Digest;

use super::PeerApp;
use crate::sim::{probe::Observation, replica::Act};

/// Time between verifications.
const VERIFY_PERIOD_MS: u64 = 3_600_000;

/// A multicast is tried again for this long.
const TRY_AGAIN_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) state: Option<Bytes>,
    pub(super) is_synced: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) sender: MemberId,
    pub(super) message: NormalMessage,
    pub(super) raw: Bytes,
    /// Came in UPDATE mode, when synced members applied it at once.
    pub(super) is_late: bool,
    /// A synced member that applied it at once has taken part in the exchange after that.
    pub(super) is_applied_elsewhere: bool,
}

/// A C daemon's part in a group.
#[derive(Debug)]
pub(crate) struct Peer<P> {
    pub(crate) app: P,
    pub(crate) seen: Vec<Observation>,
    pub(super) mode: Mode,
    pub(super) local: Option<MemberId>,
    pub(super) members: Vec<Member>,
    lowest_node: u32,
    epoch_count: u32,
    pub(super) epoch: Epoch,
    /// "Queue 1" and "queue 2".
    pub(super) queue: Vec<Queued>,
    pub(super) update_queue: VecDeque<Queued>,
    /// What synced members did since the exchange ended, as far as it is known here.
    pub(super) right_order: Vec<(MemberId, u64)>,
    /// Members that were synced when this daemon was last updated.
    pub(super) witnesses: Vec<MemberId>,
    message_count: u64,
    pub(super) waiters: BTreeMap<u64, RequestId>,
    pub(super) verify: Verify,
    pub(super) is_quorate: bool,
    /// A client's or the dispatching thread waits for corosync to take these, the first since then.
    blocked: VecDeque<Bytes>,
    blocked_since_ms: u64,
    /// When it tries for the first time to join again, which fails and closes the connection.
    gives_up_waiters_at_ms: Option<u64>,
    pub(super) now: Now,
}

#[derive(Debug, Default)]
pub(super) struct Verify {
    pub(super) request_count: u64,
    pub(super) saved_id: u64,
    pub(super) saved_epoch: Epoch,
    pub(super) saved: Digest,
    due_ms: Option<u64>,
}

impl<P: PeerApp> Peer<P> {
    pub(crate) fn new(app: P) -> Self {
        Self {
            app,
            seen: Vec::new(),
            mode: Mode::Start,
            local: None,
            members: Vec::new(),
            lowest_node: 0,
            epoch_count: 0,
            epoch: Epoch::default(),
            queue: Vec::new(),
            update_queue: VecDeque::new(),
            right_order: Vec::new(),
            witnesses: Vec::new(),
            message_count: 0,
            waiters: BTreeMap::new(),
            verify: Verify::default(),
            is_quorate: false,
            blocked: VecDeque::new(),
            blocked_since_ms: 0,
            gives_up_waiters_at_ms: None,
            now: Now::default(),
        }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn members(&self) -> Vec<MemberId> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub(crate) fn queued_count(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_stuck(&self) -> bool {
        !self.blocked.is_empty()
    }

    pub(crate) fn handle(&mut self, now: Now, event: Event) -> Vec<Act> {
        self.now = now;
        let due_ms = now.monotonic_ms + VERIFY_PERIOD_MS;
        self.verify.due_ms.get_or_insert(due_ms);
        let mut out = Vec::new();
        match event {
            Event::Connected { local } => self.connected(local, &mut out),
            Event::ConnectFailed => out.push(Act::Join { delay_ms: 6000 }),
            Event::Disconnected => self.disconnected(&mut out),
            Event::Membership {
                members,
                has_joined,
            } => self.membership(members, has_joined, &mut out),
            Event::Delivered { sender, message } => self.delivered(sender, message, &mut out),
            Event::SendBlocked { unsent } => self.send_blocked(unsent),
            Event::SendFailed { unsent } => self.send_failed(&unsent, &mut out),
            Event::Quorum(view) => self.is_quorate = view.is_quorate,
            Event::Mended | Event::Stop => {}
            Event::Tick => self.tick(&mut out),
        }
        out
    }

    fn connected(&mut self, local: MemberId, out: &mut Vec<Act>) {
        if matches!(self.mode, Mode::VersionError | Mode::Error) {
            return out.push(Act::Leave);
        }
        self.initialise(out);
        self.local = Some(local);
    }

    fn initialise(&mut self, out: &mut Vec<Act>) {
        self.gives_up_waiters_at_ms = None;
        self.queue.clear();
        self.abort_waiters(out);
        self.members.clear();
        self.mode = Mode::Start;
    }

    fn abort_waiters(&mut self, out: &mut Vec<Act>) {
        let result = Err(FsError::Busy);
        for id in std::mem::take(&mut self.waiters).into_values() {
            out.push(Act::Answer { id, result });
        }
    }

    fn disconnected(&mut self, out: &mut Vec<Act>) {
        self.local = None;
        self.blocked.clear();
        if matches!(self.mode, Mode::VersionError | Mode::Error) {
            return;
        }
        self.abort_waiters(out);
        self.mode = Mode::Start;
        self.members.clear();
        out.push(Act::Join { delay_ms: 6000 });
    }

    fn membership(&mut self, mut ids: Vec<MemberId>, has_joined: bool, out: &mut Vec<Act>) {
        let Some(local) = self.local else { return };
        self.epoch_count = self.epoch_count.wrapping_add(1);
        self.epoch = Epoch {
            number: self.epoch_count,
            time_secs: self.now.wall_secs,
            node: local.node,
            pid: local.pid,
        };
        self.verify.saved_id = self.verify.request_count;
        self.verify.saved_epoch = Epoch::default();
        self.update_queue.clear();
        if self.mode.is_error() {
            return;
        }
        ids.sort_unstable();
        self.note_witnesses();
        self.lowest_node = ids.first().map_or(0, |first| first.node);
        self.app.discard();
        self.members = ids.iter().map(|id| Member::new(*id)).collect();
        if !ids.contains(&local) {
            if self.mode != Mode::Start {
                self.leave("not a member", out);
            }
            return;
        }
        if ids.len() > 1 {
            if has_joined {
                for queued in std::mem::take(&mut self.queue) {
                    if queued.sender == local {
                        out.push(Act::Send(queued.raw));
                    }
                }
            }
            self.enter(Mode::StartSync, out);
            if local.node == self.lowest_node {
                self.send_state(MessageKind::SyncStart, Bytes::new(), out);
            }
        } else {
            self.enter(Mode::Synced, out);
            self.mark_all_synced();
            self.walk_queue(out);
        }
        if !self.mode.is_error() {
            self.app.members_changed(&ids);
        }
    }

    /// Who was synced has applied at once what this daemon only queued.
    fn note_witnesses(&mut self) {
        if self.mode == Mode::Update {
            let synced = self.members.iter().filter(|member| member.is_synced);
            self.witnesses = synced.map(|member| member.id).collect();
        }
    }

    pub(crate) fn ask(&mut self, now: Now, id: RequestId, request: P::Request) -> Vec<Act> {
        self.now = now;
        let mut out = Vec::new();
        self.request(id, request, &mut out);
        out
    }

    fn request(&mut self, id: RequestId, request: P::Request, out: &mut Vec<Act>) {
        if P::NEEDS_QUORUM && !self.is_quorate {
            let result = Err(FsError::Access);
            return out.push(Act::Answer { id, result });
        }
        let (messages, waits) = self.app.messages(request);
        // After a failed attempt to join there is no connection; before it, the message goes into the void.
        if self.local.is_none() && self.mode == Mode::Start {
            let result = Err(FsError::Busy);
            return out.push(Act::Answer { id, result });
        }
        for (subtype, payload) in messages {
            self.send_normal(subtype, payload, out);
        }
        if waits {
            self.waiters.insert(self.message_count, id);
        } else {
            out.push(Act::Answer { id, result: Ok(0) });
        }
    }

    fn send_blocked(&mut self, unsent: Vec<Bytes>) {
        if self.mode.is_error() {
            return;
        }
        if self.blocked.is_empty() {
            self.blocked_since_ms = self.now.monotonic_ms;
        }
        let later = std::mem::take(&mut self.blocked);
        self.blocked = unsent.into_iter().chain(later).collect();
    }

    /// A message that is not sent: a failed request, an update that is missing, or a reason to leave.
    fn send_failed(&mut self, unsent: &[Bytes], out: &mut Vec<Act>) {
        for message in unsent {
            let header = Header::decode(message).expect("it was sent by this daemon");
            match header.kind {
                MessageKind::Normal => {
                    let count = NormalMessage::decode(message).map_or(0, |normal| normal.count);
                    if let Some(id) = self.waiters.remove(&count) {
                        let result = Err(FsError::Busy);
                        out.push(Act::Answer { id, result });
                    }
                }
                MessageKind::Update | MessageKind::VerifyRequest => {}
                _ => self.leave("unable to send", out),
            }
        }
    }

    fn tick(&mut self, out: &mut Vec<Act>) {
        let now_ms = self.now.monotonic_ms;
        if let Some(first) = self.blocked.front().cloned() {
            if now_ms.saturating_sub(self.blocked_since_ms) >= TRY_AGAIN_MS {
                self.blocked.pop_front();
                self.blocked_since_ms = now_ms;
                self.send_failed(&[first], out);
            }
            if !self.mode.is_error() {
                out.extend(self.blocked.drain(..).map(Act::Send));
            }
            self.blocked.clear();
            return;
        }
        if self.gives_up_waiters_at_ms.is_some_and(|at| at <= now_ms) {
            self.initialise(out);
            self.local = None;
        }
        if self.verify.due_ms.is_some_and(|due| due <= now_ms) {
            self.verify.due_ms = Some(now_ms + VERIFY_PERIOD_MS);
            self.request_verification(out);
        }
    }

    fn request_verification(&mut self, out: &mut Vec<Act>) {
        if !P::IS_VERIFIED || self.mode != Mode::Synced || !self.is_lowest() {
            return;
        }
        if self.verify.request_count != self.verify.saved_id {
            return;
        }
        self.verify.request_count += 1;
        let request = VerifyMessage {
            id: self.verify.request_count,
            checksum: None,
        };
        self.send_state(MessageKind::VerifyRequest, request.encode(), out);
    }

    pub(super) fn is_lowest(&self) -> bool {
        self.local
            .is_some_and(|local| local.node == self.lowest_node)
    }

    pub(super) fn mark_all_synced(&mut self) {
        for member in &mut self.members {
            member.is_synced = true;
        }
    }

    pub(super) fn send_normal(&mut self, subtype: u16, payload: Bytes, out: &mut Vec<Act>) {
        self.message_count += 1;
        let time_secs = self.now.wall_secs;
        let message =
            NormalMessage::new(P::PROTOCOL, subtype, time_secs, self.message_count, payload);
        out.push(Act::Send(message.encode()));
    }

    pub(super) fn send_state(&mut self, kind: MessageKind, payload: Bytes, out: &mut Vec<Act>) {
        let time_secs = self.now.wall_secs;
        let message = StateMessage::new(kind, P::PROTOCOL, time_secs, self.epoch, payload);
        out.push(Act::Send(message.encode()));
    }

    pub(super) fn enter(&mut self, mode: Mode, out: &mut Vec<Act>) {
        if mode == self.mode || !mode.may_follow(self.mode) {
            return;
        }
        out.push(Act::Tell(format!("C: {mode:?}")));
        self.mode = mode;
        if mode == Mode::Synced {
            let mut outgoing = Vec::new();
            self.app.became_synced(&mut outgoing);
            for (subtype, payload) in outgoing {
                self.send_normal(subtype, payload, out);
            }
        }
    }

    /// Leaves, in whatever mode for errors that is given by `mode`.
    pub(super) fn leave_in(&mut self, mode: Mode, reason: &str, out: &mut Vec<Act>) {
        if self.mode.is_error() {
            return self.enter(mode, out);
        }
        out.push(Act::Tell(format!("C: {reason}")));
        self.enter(mode, out);
        self.app.discard();
        for member in &mut self.members {
            member.state = None;
        }
        self.blocked.clear();
        self.local = None;
        out.push(Act::Leave);
        if mode == Mode::Leave {
            let odd = self.now.monotonic_ms;
            self.gives_up_waiters_at_ms = Some(odd + 200 + odd % 800);
            let delay_ms = 6000 + odd % 3000;
            out.push(Act::Join { delay_ms });
        }
    }

    pub(super) fn leave(&mut self, reason: &str, out: &mut Vec<Act>) {
        self.leave_in(Mode::Leave, reason, out);
    }
}

impl Member {
    const fn new(id: MemberId) -> Self {
        Self {
            id,
            state: None,
            is_synced: false,
        }
    }
}
