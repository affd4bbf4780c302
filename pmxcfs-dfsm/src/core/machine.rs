//! State of a member, and what changes it from outside of the group: connection, membership, requests, time.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmxcfs_api_types::FsError;

use super::{
    Action, Actions, Event, LogLevel, MemberId, Mode, Now, RequestId,
    backoff::Backoff,
    doubtful::Doubtful,
    mode::State,
    outbox::Outbox,
    queue::{Queue, Queued},
    requests::Requests,
    verify::Verifier,
};
use crate::{
    app::{Application, Context, Outgoing, Prepared},
    wire::{Epoch, Header, MessageKind, NormalMessage, StateMessage},
};

/// Messages that are kept while corosync takes none, at most. A daemon announces some hundred a minute.
const MOST_KEPT_COUNT: usize = 4096;

/// One process of the last membership.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) id: MemberId,
    /// Its data are the leader's.
    pub(super) is_synced: bool,
}

/// What an observer may know of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub mode: Mode,
    /// The last membership, ascending.
    pub members: Vec<MemberId>,
    /// Messages that wait for the end of a synchronisation ("queue 1").
    pub queued_count: usize,
    /// Requests without an answer, the held ones included.
    pub pending_count: usize,
    /// Requests that wait until this member is synced.
    pub held_count: usize,
    /// Messages that corosync has not taken yet.
    pub unsent_count: usize,
    /// Whom a synchronisation waits for; `None` while there is none.
    pub waiting: Option<Waiting>,
}

/// Whom a synchronisation waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Members whose state is missing; while this member is updated, those who may lead.
    pub members: Vec<MemberId>,
    /// Monotonic time in milliseconds at which something came last that is waited for.
    pub since_ms: u64,
}

/// One member of one group.
#[derive(Debug)]
pub struct Machine<A: Application> {
    pub(super) app: A,
    pub(super) state: State,
    pub(super) local: Option<MemberId>,
    pub(super) members: Vec<Member>,
    pub(super) lowest_node: u32,
    pub(super) epoch: Epoch,
    /// Number of membership changes so far, in all modes.
    pub(super) epoch_count: u32,
    /// Number of normal messages so far. Survives rejoins.
    message_count: u64,
    /// Counts of own messages that were sent, or sent again, and have not come back.
    pub(super) in_flight: BTreeSet<u64>,
    pub(super) queue: Queue,
    pub(super) doubtful: Doubtful,
    pub(super) requests: Requests,
    /// Requests that wait until this member is synced, in order.
    held: Vec<(RequestId, A::Request)>,
    pub(super) verifier: Verifier,
    pub(super) outbox: Outbox,
    pub(super) backoff: Backoff,
    is_quorate: bool,
    pub(super) now: Now,
}

impl<A: Application> Machine<A> {
    /// A member that waits for its first connection.
    #[must_use]
    pub fn new(app: A) -> Self {
        Self {
            app,
            state: State::Start,
            local: None,
            members: Vec::new(),
            lowest_node: 0,
            epoch: Epoch::default(),
            epoch_count: 0,
            message_count: 0,
            in_flight: BTreeSet::new(),
            queue: Queue::default(),
            doubtful: Doubtful::default(),
            requests: Requests::default(),
            held: Vec::new(),
            verifier: Verifier::default(),
            outbox: Outbox::default(),
            backoff: Backoff::default(),
            is_quorate: false,
            now: Now::default(),
        }
    }

    /// What is replicated.
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// What is replicated. Replicated data must only be changed by the group.
    pub const fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// What it is doing.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.state.mode()
    }

    /// Mode, members and what waits.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            mode: self.mode(),
            members: self.members.iter().map(|member| member.id).collect(),
            queued_count: self.queue.len(),
            pending_count: self.requests.len() + self.held.len(),
            held_count: self.held.len(),
            unsent_count: self.outbox.len(),
            waiting: self.awaited().map(|(members, wait)| Waiting {
                members,
                since_ms: wait.progress_ms,
            }),
        }
    }

    /// Handles one event and appends what must be done, in order.
    pub fn handle(&mut self, now: Now, event: Event<A::Request>, out: &mut Actions<A::Notice>) {
        self.now = now;
        self.verifier.start(now.monotonic_ms);
        match event {
            Event::Connected { local } => self.connected(local, out),
            Event::ConnectFailed => self.connect_later(out),
            Event::Disconnected => self.disconnected(out),
            Event::Membership {
                members,
                has_joined,
            } => self.membership(members, has_joined, out),
            Event::Delivered { sender, message } => self.delivered(sender, message, out),
            Event::Request { id, request } => self.request(id, request, out),
            Event::SendBlocked { unsent } => self.send_blocked(unsent, out),
            Event::SendFailed { unsent } => self.give_up_sending(unsent, out),
            Event::Quorum(is_quorate) => self.quorum(is_quorate, out),
            Event::Mended => self.mended(out),
            Event::Tick => self.tick(out),
        }
        self.release_held(out);
    }

    fn connected(&mut self, local: MemberId, out: &mut Actions<A::Notice>) {
        if matches!(self.mode(), Mode::VersionError | Mode::Error) {
            out.push(Action::Leave);
            return;
        }
        self.forget_group(FsError::Busy, out);
        self.local = Some(local);
        out.log(LogLevel::Info, Mode::Start.announcement().1);
        self.state = State::Start;
    }

    fn disconnected(&mut self, out: &mut Actions<A::Notice>) {
        if self.local.take().is_none() || self.mode().is_error() {
            return;
        }
        self.settle();
        self.forget_group(FsError::Busy, out);
        self.state = State::Start;
        out.log(LogLevel::Warn, "connection to corosync lost");
        self.connect_later(out);
    }

    fn mended(&mut self, out: &mut Actions<A::Notice>) {
        if self.mode() == Mode::Error {
            self.state = State::Start;
            self.join_later(out);
        }
    }

    fn join_later(&mut self, out: &mut Actions<A::Notice>) {
        let delay_ms = self.backoff.after_leaving_ms();
        out.push(Action::Join { delay_ms });
    }

    fn connect_later(&mut self, out: &mut Actions<A::Notice>) {
        if !matches!(self.mode(), Mode::VersionError | Mode::Error) {
            let delay_ms = self.backoff.after_failed_connection_ms();
            out.push(Action::Join { delay_ms });
        }
    }

    /// What does not survive the loss of a connection: everything that belongs to the group. Kept are the data, the
    /// counters of messages and epochs, the verification's request counter, and the back-off.
    fn forget_group(&mut self, answer: FsError, out: &mut Actions<A::Notice>) {
        self.members.clear();
        self.queue.take();
        self.doubtful.clear();
        self.in_flight.clear();
        self.outbox.take();
        self.app.discard();
        self.verifier.forget();
        self.requests.answer_all(answer, out);
        self.answer_held(answer, out);
    }

    /// Whether a write sent now might reach others between the end of an exchange and the end of the update, although this
    /// member is not synced. Synced members would apply it where it comes, while C peers that are updated apply it behind
    /// everything else, or twice; and a message that others have applied and this member has not has no result here.
    const fn holds_requests(&self) -> bool {
        let is_unsynced = matches!(
            self.state,
            State::StartSync {
                is_announced: true,
                ..
            } | State::Update { .. }
        );
        A::HAS_UPDATES && is_unsynced
    }

    fn release_held(&mut self, out: &mut Actions<A::Notice>) {
        if self.held.is_empty() || self.holds_requests() {
            return;
        }
        for (id, request) in std::mem::take(&mut self.held) {
            self.request(id, request, out);
        }
    }

    fn answer_held(&mut self, answer: FsError, out: &mut Actions<A::Notice>) {
        for (id, _) in self.held.drain(..) {
            let result = Err(answer);
            out.push(Action::Answer { id, result });
        }
    }

    fn request(&mut self, id: RequestId, request: A::Request, out: &mut Actions<A::Notice>) {
        if self.holds_requests() && (self.is_quorate || !A::NEEDS_QUORUM) {
            return self.held.push((id, request));
        }
        let result = match self.prepare(request, out) {
            Ok(Prepared::Done(value)) => Ok(value),
            Ok(Prepared::Announce(messages)) => {
                for message in messages {
                    self.send_normal(message, None, out);
                }
                Ok(0)
            }
            Ok(Prepared::Send {
                mut messages,
                reply,
            }) => match (messages.pop(), self.is_joined()) {
                (None, _) => Ok(0),
                (Some(_), false) => Err(FsError::Io),
                (Some(last), true) => {
                    for message in messages {
                        self.send_normal(message, None, out);
                    }
                    self.send_normal(last, Some((id, reply)), out);
                    return;
                }
            },
            Err(error) => Err(error),
        };
        out.push(Action::Answer { id, result });
    }

    fn prepare(
        &mut self,
        request: A::Request,
        out: &mut Actions<A::Notice>,
    ) -> Result<Prepared, FsError> {
        if A::NEEDS_QUORUM && !self.is_quorate {
            return Err(FsError::Access);
        }
        self.with_app(out, |app, context| app.prepare(request, context))
    }

    fn quorum(&mut self, is_quorate: bool, out: &mut Actions<A::Notice>) {
        if self.is_quorate == is_quorate {
            return;
        }
        self.is_quorate = is_quorate;
        let text = if is_quorate {
            "node has quorum"
        } else {
            "node lost quorum"
        };
        out.log(LogLevel::Info, text);
        if A::NEEDS_QUORUM && !is_quorate {
            let mut unsent = Vec::new();
            self.outbox.retain(|message| {
                if is_normal(message) {
                    unsent.push(message.clone());
                }
                !is_normal(message)
            });
            self.answer_unsent(&unsent, FsError::Access, out);
            self.answer_held(FsError::Access, out);
        }
    }

    fn tick(&mut self, out: &mut Actions<A::Notice>) {
        let now_ms = self.now.monotonic_ms;
        if self.outbox.is_hopeless(now_ms) {
            let unsent = self.outbox.take();
            let is_kept =
                A::KEEPS_UNSENT && unsent.len() <= MOST_KEPT_COUNT && unsent.iter().all(is_normal);
            if is_kept {
                out.log(LogLevel::Warn, "corosync takes no messages, keep trying");
                self.outbox.put_back(unsent, now_ms);
            } else {
                self.give_up_sending(unsent, out);
            }
        }
        for message in self.outbox.due(now_ms) {
            out.push(Action::Multicast(message));
        }
        self.watch_sync(out);
        self.verify_when_due(out);
    }

    fn send_blocked(&mut self, unsent: Vec<Bytes>, out: &mut Actions<A::Notice>) {
        if self.is_joined() {
            self.outbox.put_back(unsent, self.now.monotonic_ms);
        } else {
            self.answer_unsent(&unsent, FsError::Busy, out);
        }
    }

    /// Normal messages that are not sent are failed requests; a round of synchronisation cannot end without its messages,
    /// and what others should have heard is repeated in an exchange.
    fn give_up_sending(&mut self, mut unsent: Vec<Bytes>, out: &mut Actions<A::Notice>) {
        unsent.extend(self.outbox.take());
        self.answer_unsent(&unsent, FsError::Busy, out);
        if self.is_joined() && !unsent.iter().all(is_normal) {
            self.leave("messages of the synchronisation could not be sent", out);
        } else if self.is_joined() && A::KEEPS_UNSENT && !unsent.is_empty() {
            self.leave("messages could not be sent", out);
        }
    }

    fn answer_unsent(&mut self, unsent: &[Bytes], error: FsError, out: &mut Actions<A::Notice>) {
        let Some(local) = self.local else {
            return;
        };
        for message in unsent.iter().filter(|message| is_normal(message)) {
            if let Ok(message) = NormalMessage::decode(message) {
                self.in_flight.remove(&message.count);
                self.requests.answer(local, message.count, Err(error), out);
            }
        }
    }

    /// Whether messages of this member reach the group.
    fn is_joined(&self) -> bool {
        !self.mode().is_error() && self.mode() != Mode::Start
    }

    /// Whether an own message has come back before one that was to be applied earlier: messages that wait in queue 1 when
    /// somebody joins are sent again, behind those that were under way then. An exchange puts them in order, but a member
    /// that is alone has none. With others, all must do the same.
    pub(super) fn is_too_early(&self, queued: &Queued) -> bool {
        let is_alone = self.members.len() == 1;
        let first = self.in_flight.first();
        is_alone
            && self.local == Some(queued.sender)
            && first.is_some_and(|first| *first < queued.message.count)
    }

    pub(super) fn is_lowest(&self) -> bool {
        self.local
            .is_some_and(|local| local.node == self.lowest_node)
    }

    pub(super) fn send(&mut self, message: Bytes, out: &mut Actions<A::Notice>) {
        if self.outbox.is_blocked() {
            self.outbox.push(message);
        } else {
            out.push(Action::Multicast(message));
        }
    }

    pub(super) fn send_state(
        &mut self,
        kind: MessageKind,
        payload: Bytes,
        out: &mut Actions<A::Notice>,
    ) {
        let message = StateMessage::new(kind, A::PROTOCOL, self.now.wall_secs, self.epoch, payload);
        self.send(message.encode(), out);
    }

    /// Sends a message of the application, unless this member is not joined.
    fn send_normal(
        &mut self,
        message: Outgoing,
        request: Option<(RequestId, Option<u32>)>,
        out: &mut Actions<A::Notice>,
    ) {
        let Some(local) = self.local.filter(|_| self.is_joined()) else {
            return;
        };
        self.message_count += 1;
        let count = self.message_count;
        self.in_flight.insert(count);
        if let Some((id, reply)) = request {
            self.requests.insert(local, count, id, reply);
        }
        let Outgoing { subtype, payload } = message;
        let normal = NormalMessage::new(A::PROTOCOL, subtype, self.now.wall_secs, count, payload);
        self.send(normal.encode(), out);
    }

    /// Calls the application, then sends what it wants sent.
    pub(super) fn with_app<R>(
        &mut self,
        out: &mut Actions<A::Notice>,
        call: impl FnOnce(&mut A, &mut Context<'_, A::Notice>) -> R,
    ) -> R {
        let mut outgoing = Vec::new();
        let mut context = Context {
            now: self.now,
            is_quorate: self.is_quorate,
            local: self.local.unwrap_or(MemberId { node: 0, pid: 0 }),
            lowest_node: self.lowest_node,
            out,
            outgoing: &mut outgoing,
        };
        let result = call(&mut self.app, &mut context);
        for message in outgoing {
            self.send_normal(message, None, out);
        }
        result
    }

    /// Changes the mode. Entering the mode that already is replaces its data only.
    pub(super) fn enter(&mut self, state: State, out: &mut Actions<A::Notice>) {
        let mode = state.mode();
        if mode != self.mode() {
            let (level, text) = mode.announcement();
            out.log(level, text);
            self.settle();
        }
        self.state = state;
    }

    pub(super) fn become_synced(&mut self, out: &mut Actions<A::Notice>) {
        if self.mode() == Mode::Synced {
            return;
        }
        let since_ms = self.now.monotonic_ms;
        self.enter(State::Synced { since_ms }, out);
        self.with_app(out, |app, context| app.became_synced(context));
    }

    /// Leaves the group, to join again and be brought up to date.
    pub(super) fn leave(&mut self, reason: &str, out: &mut Actions<A::Notice>) {
        out.log(LogLevel::Warn, reason);
        self.leave_for(State::Leave, FsError::Busy, out);
        self.join_later(out);
    }

    /// Leaves the group to stay out.
    pub(super) fn stop(&mut self, state: State, reason: &str, out: &mut Actions<A::Notice>) {
        out.log(LogLevel::Error, reason);
        self.leave_for(state, FsError::Io, out);
    }

    fn leave_for(&mut self, state: State, answer: FsError, out: &mut Actions<A::Notice>) {
        debug_assert!(
            state.mode().may_follow(self.mode()),
            "an error mode hides no worse one"
        );
        self.enter(state, out);
        self.forget_group(answer, out);
        self.local = None;
        out.push(Action::Leave);
    }

    fn settle(&mut self) {
        if let State::Synced { since_ms } = self.state {
            self.backoff
                .settle(self.now.monotonic_ms.saturating_sub(since_ms));
        }
    }
}

impl Member {
    pub(super) const fn unsynced(id: MemberId) -> Self {
        Self {
            id,
            is_synced: false,
        }
    }
}

pub(super) fn is_normal(message: &Bytes) -> bool {
    Header::decode(message).is_ok_and(|header| header.kind == MessageKind::Normal)
}
