//! State of a member, and the events from outside of the group: connection, requests, quorum, time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use bytes::Bytes;
use pmxcfs_api_types::FsError;

use super::{
    Action, Event, LogLevel, MemberId, Mode, Now, QuorumView, RequestId,
    backlog::{BACKLOG_LIMIT, Backlog},
    backoff::Backoff,
    doubtful::Doubtful,
    mode::State,
    outbox::Outbox,
    queue::Queued,
    verifier::Verifier,
};
use crate::{
    app::{Application, Context, Outgoing},
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

/// A machine as an observer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its mode.
    pub mode: Mode,
    /// The last membership, ascending.
    pub members: Vec<MemberId>,
    /// Messages that wait for the end of a synchronisation ("queue 1").
    pub queued_count: usize,
    /// Requests without an answer, the held ones included.
    pub pending_count: usize,
    /// Requests that wait until this member has joined and is synced.
    pub held_count: usize,
    /// Messages that corosync has not taken yet.
    pub unsent_count: usize,
    /// The members that a synchronisation waits for; `None` while there is none.
    pub waiting: Option<Waiting>,
}

/// The members that a synchronisation waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Members whose state is missing; while this member is updated, those that may be the leader.
    pub members: Vec<MemberId>,
    /// Monotonic time in milliseconds of the last message that the synchronisation waited for.
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
    /// Messages that wait for the end of a synchronisation ("queue 1"), see [`queue::insert`](super::queue::insert).
    pub(super) queue: Vec<Queued>,
    pub(super) doubtful: Doubtful,
    pub(super) backlog: Backlog,
    /// Bytes of own updates that have not come back, while this member leads and there are more to send.
    pub(super) updates_under_way: Option<usize>,
    last_request: RequestId,
    /// Requests by the count of the own message whose delivery answers them.
    pub(super) pending: BTreeMap<u64, RequestId>,
    /// Requests that wait until this member has joined and is synced, in order, with the time of their arrival.
    pub(super) held: VecDeque<(u64, A::Request)>,
    pub(super) verifier: Verifier,
    pub(super) outbox: Outbox,
    pub(super) backoff: Backoff,
    pub(super) quorum: QuorumView,
    /// Since when daemons of this side may have more changes than the group; `None` if this member is synced with all, or has
    /// waited for them. See `Machine::await_daemons`.
    pub(super) incomplete_since_ms: Option<u64>,
    pub(super) now: Now,
    /// What is to be done for the event under way, in order.
    out: Vec<Action>,
}

impl<A: Application> Machine<A> {
    /// A member that waits for its first connection.
    pub fn new(app: A) -> Self {
        Self::with_backlog_limit(app, BACKLOG_LIMIT)
    }

    /// As [`Machine::new`] with another bound, for tests: `limit` bounds in bytes what is kept for a synchronisation.
    pub fn with_backlog_limit(app: A, limit: usize) -> Self {
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
            queue: Vec::new(),
            doubtful: Doubtful::default(),
            backlog: Backlog::new(limit),
            updates_under_way: None,
            last_request: RequestId(0),
            pending: BTreeMap::new(),
            held: VecDeque::new(),
            verifier: Verifier::default(),
            outbox: Outbox::default(),
            backoff: Backoff::default(),
            quorum: QuorumView::default(),
            incomplete_since_ms: None,
            now: Now::default(),
            out: Vec::new(),
        }
    }

    /// The application.
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// The application. Only the group may change replicated data.
    pub const fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// Its mode.
    pub const fn mode(&self) -> Mode {
        self.state.mode()
    }

    /// Mode, members and queues.
    pub fn status(&self) -> Status {
        Status {
            mode: self.mode(),
            members: self.members.iter().map(|member| member.id).collect(),
            queued_count: self.queue.len(),
            pending_count: self.pending.len() + self.held.len(),
            held_count: self.held.len(),
            unsent_count: self.outbox.len(),
            waiting: self.awaited().map(|(members, wait)| Waiting {
                members,
                since_ms: wait.progress_ms,
            }),
        }
    }

    /// Handles one event. Gives the actions for it, to be carried out in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = now;
        self.verifier.start(now.monotonic_ms);
        match event {
            Event::Connected { local } => self.connected(local),
            Event::ConnectFailed => self.connect_later(),
            Event::Disconnected => self.disconnected(),
            Event::Membership {
                members,
                has_joined,
            } => self.membership(members, has_joined),
            Event::Delivered { sender, message } => self.delivered(sender, message),
            Event::SendBlocked { unsent } => self.send_blocked(unsent),
            Event::SendFailed { unsent } => self.give_up_sending(unsent),
            Event::Quorum(view) => self.quorum(view),
            Event::Mended => self.mended(),
            Event::Tick => self.tick(),
            Event::Stop => self.give_up(),
        }
        self.release_held();
        mem::take(&mut self.out)
    }

    /// Takes a request of a process of this node. Gives the actions for it. The application answers it.
    pub fn request(&mut self, now: Now, request: A::Request) -> Vec<Action> {
        self.now = now;
        self.held.push_back((now.monotonic_ms, request));
        self.release_held();
        mem::take(&mut self.out)
    }

    /// Everything that came in together was handled. Gives the actions that had to wait for that.
    pub fn settle(&mut self) -> Vec<Action> {
        self.send_due();
        mem::take(&mut self.out)
    }

    /// All actions that came of it were carried out, and no more are to come at once.
    pub fn flush(&mut self) {
        self.app.flush();
    }

    fn connected(&mut self, local: MemberId) {
        if matches!(self.mode(), Mode::VersionError | Mode::Error) {
            self.out.push(Action::Leave);
            return;
        }
        self.forget_group(FsError::Busy);
        self.local = Some(local);
        self.incomplete_since_ms = Some(self.now.monotonic_ms);
        self.log(LogLevel::Info, Mode::Start.announcement().1);
        self.state = State::Start;
    }

    fn disconnected(&mut self) {
        if self.local.take().is_none() || self.mode().is_error() {
            return;
        }
        self.end_synced();
        self.forget_group(FsError::Busy);
        self.app.disconnected();
        self.state = State::Start;
        self.log(LogLevel::Warn, "connection to corosync lost");
        self.connect_later();
    }

    fn give_up(&mut self) {
        self.local = None;
        self.forget_group(FsError::Busy);
        for (_, request) in self.held.drain(..) {
            A::refuse(request, FsError::Io);
        }
        self.app.disconnected();
        self.out.push(Action::Leave);
    }

    fn mended(&mut self) {
        if self.mode() == Mode::Error {
            self.state = State::Start;
            self.join_later(false);
        }
    }

    fn join_later(&mut self, is_alone: bool) {
        let delay_ms = self.backoff.after_leaving_ms(is_alone);
        self.out.push(Action::Join { delay_ms });
    }

    fn connect_later(&mut self) {
        if !matches!(self.mode(), Mode::VersionError | Mode::Error) {
            let delay_ms = self.backoff.after_failed_connection_ms();
            self.out.push(Action::Join { delay_ms });
        }
    }

    /// Forgets everything that belongs to the group and ends with the connection. The machine keeps the data, the
    /// counters of messages and epochs, the verification's request counter, the back-off, and requests that were not sent.
    fn forget_group(&mut self, answer: FsError) {
        self.members.clear();
        self.queue.clear();
        self.doubtful.clear();
        self.in_flight.clear();
        self.outbox.take();
        self.discard();
        self.verifier.forget();
        for id in mem::take(&mut self.pending).into_values() {
            self.app.fail(id, answer);
        }
    }

    pub(super) fn carry_out(&mut self, request: A::Request) {
        if A::IS_EXACT && !self.quorum.is_quorate {
            return A::refuse(request, FsError::Access);
        }
        self.last_request.0 += 1;
        let id = self.last_request;
        let mut messages = self.with_app(|app, context| app.prepare(id, request, context));
        let Some(last) = messages.pop() else {
            return;
        };
        if !self.is_joined() {
            return self.app.fail(id, FsError::Io);
        }
        for message in messages {
            self.send_normal(message, None);
        }
        self.send_normal(last, Some(id));
    }

    fn quorum(&mut self, view: QuorumView) {
        let is_quorate = view.is_quorate;
        let former = mem::replace(&mut self.quorum, view);
        if (former.is_quorate, former.loss_count) != (is_quorate, self.quorum.loss_count) {
            self.incomplete_since_ms = is_quorate.then_some(self.now.monotonic_ms);
        }
        if former.is_quorate == is_quorate {
            return;
        }
        let text = if is_quorate {
            "node has quorum"
        } else {
            "node lost quorum"
        };
        self.log(LogLevel::Info, text);
        if A::IS_EXACT && !is_quorate {
            let mut unsent = Vec::new();
            self.outbox.retain(|message| {
                if is_normal(message) {
                    unsent.push(message.clone());
                }
                !is_normal(message)
            });
            self.fail_unsent(&unsent, FsError::Access);
        }
    }

    fn tick(&mut self) {
        let now_ms = self.now.monotonic_ms;
        if self.outbox.is_hopeless(now_ms) {
            let unsent = self.outbox.take();
            let is_kept =
                !A::IS_EXACT && unsent.len() <= MOST_KEPT_COUNT && unsent.iter().all(is_normal);
            if is_kept {
                self.log(LogLevel::Warn, "corosync takes no messages, keep trying");
                self.outbox.put_back(unsent, now_ms);
            } else {
                self.give_up_sending(unsent);
            }
        }
        for message in self.outbox.due(now_ms) {
            self.out.push(Action::Multicast(message));
        }
        self.watch_sync();
        self.verify_when_due();
    }

    fn send_blocked(&mut self, unsent: Vec<Bytes>) {
        if self.is_joined() {
            self.outbox.put_back(unsent, self.now.monotonic_ms);
        } else {
            self.fail_unsent(&unsent, FsError::Busy);
        }
    }

    /// Normal messages that are not sent are failed requests; a round of synchronisation cannot end without its messages,
    /// and an exchange repeats the news that others have missed.
    fn give_up_sending(&mut self, mut unsent: Vec<Bytes>) {
        unsent.extend(self.outbox.take());
        self.fail_unsent(&unsent, FsError::Busy);
        if self.is_joined() && !unsent.iter().all(is_normal) {
            self.leave("messages of the synchronisation could not be sent");
        } else if self.is_joined() && !A::IS_EXACT && !unsent.is_empty() {
            self.leave("messages could not be sent");
        }
    }

    fn fail_unsent(&mut self, unsent: &[Bytes], error: FsError) {
        if self.local.is_none() {
            return;
        }
        for message in unsent.iter().filter(|message| is_normal(message)) {
            if let Ok(message) = NormalMessage::decode(message) {
                self.in_flight.remove(&message.count);
                self.fail_request(message.count, error);
            }
        }
    }

    /// The own message with this count will not be delivered here.
    pub(super) fn fail_request(&mut self, count: u64, error: FsError) {
        if let Some(id) = self.pending.remove(&count) {
            self.app.fail(id, error);
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

    pub(super) fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.out.push(Action::log(level, text));
    }

    pub(super) fn send(&mut self, message: Bytes) {
        if self.outbox.is_blocked() {
            self.outbox.push(message);
        } else {
            self.out.push(Action::Multicast(message));
        }
    }

    pub(super) fn send_state(&mut self, kind: MessageKind, payload: Bytes) {
        let message = StateMessage::new(kind, A::PROTOCOL, self.now.wall_secs, self.epoch, payload);
        self.send(message.encode());
    }

    /// Sends a message of the application, unless this member is not joined.
    fn send_normal(&mut self, message: Outgoing, request: Option<RequestId>) {
        if self.local.is_none() || !self.is_joined() {
            return;
        }
        self.message_count += 1;
        let count = self.message_count;
        self.in_flight.insert(count);
        if let Some(id) = request {
            self.pending.insert(count, id);
        }
        let Outgoing { subtype, payload } = message;
        let normal = NormalMessage::new(A::PROTOCOL, subtype, self.now.wall_secs, count, payload);
        self.send(normal.encode());
    }

    /// Calls the application, then sends its messages.
    pub(super) fn with_app<R>(&mut self, call: impl FnOnce(&mut A, &mut Context<'_>) -> R) -> R {
        let mut outgoing = Vec::new();
        let mut context = Context {
            now: self.now,
            is_quorate: self.quorum.is_quorate,
            local: self.local.unwrap_or(MemberId { node: 0, pid: 0 }),
            lowest_node: self.lowest_node,
            out: &mut self.out,
            outgoing: &mut outgoing,
        };
        let result = call(&mut self.app, &mut context);
        for message in outgoing {
            self.send_normal(message, None);
        }
        result
    }

    /// Forgets the exchange and the update under way.
    pub(super) fn discard(&mut self) {
        self.updates_under_way = None;
        self.app.discard();
    }

    /// Changes the mode. Entering the mode that already is replaces its data only.
    pub(super) fn enter(&mut self, state: State) {
        let mode = state.mode();
        if mode != self.mode() {
            let (level, text) = mode.announcement();
            self.log(level, text);
            self.end_synced();
        }
        self.state = state;
    }

    pub(super) fn become_synced(&mut self) {
        if self.mode() == Mode::Synced {
            return;
        }
        let since_ms = self.now.monotonic_ms;
        self.enter(State::Synced { since_ms });
        self.with_app(|app, context| app.became_synced(context));
    }

    /// Leaves the group, to join again and be brought up to date.
    pub(super) fn leave(&mut self, reason: &str) {
        self.log(LogLevel::Warn, reason);
        let own_node = self.local.map(|local| local.node);
        let is_alone = own_node.is_some_and(|node| *self.quorum.nodes == [node]);
        self.leave_for(State::Leave, FsError::Busy);
        self.join_later(is_alone);
    }

    /// Leaves the group for good, or until the store is mended.
    pub(super) fn stop(&mut self, state: State, reason: &str) {
        self.log(LogLevel::Error, reason);
        self.leave_for(state, FsError::Io);
    }

    fn leave_for(&mut self, state: State, answer: FsError) {
        debug_assert!(
            state.mode().may_follow(self.mode()),
            "an error mode hides no worse one"
        );
        self.enter(state);
        self.forget_group(answer);
        self.local = None;
        self.out.push(Action::Leave);
    }

    /// This member stops to be synced, if it is.
    fn end_synced(&mut self) {
        if let State::Synced { since_ms } = self.state {
            self.backoff
                .was_synced(self.now.monotonic_ms.saturating_sub(since_ms));
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
