//! The exchange of states, and the updates after it.
//!
//! All members decide the same from the same states in the same order. Every wait for another member is bounded: a member
//! that is listed but silent is named in the log, then this member leaves and joins again, which also makes corosync
//! rebuild a list that holds a process that is gone.

use std::{collections::BTreeMap, mem};

use bytes::Bytes;

use super::{
    LogLevel, Machine, MemberId, Mode,
    machine::Member,
    mode::{Due, State, Wait},
};
use crate::{
    app::{Application, SyncError},
    wire::{Epoch, MessageKind},
};

/// Silence after which the log names the missing members.
const TOLD_AFTER_MS: u64 = 5_000;

/// Silence after which a member leaves.
const LEAVE_AFTER_MS: u64 = 30_000;

/// Members leave one after the other: each change of the membership is a new chance for those that stay.
const STAGGER_MS: u64 = 1_000;

impl<A: Application> Machine<A> {
    /// Any member may send it: C peers obey all of them, and would wait for a state that never comes.
    pub(super) fn sync_start(&mut self, sender: MemberId, epoch: Epoch) {
        if sender.node != self.lowest_node {
            let text = format!("synchronisation started by {sender}, which is not the lowest");
            self.log(LogLevel::Warn, text);
        }
        self.epoch = epoch;
        self.discard();
        self.state = State::StartSync {
            states: BTreeMap::new(),
            due: Some(Due::State),
            is_announced: true,
            wait: Wait::since(self.now.monotonic_ms),
        };
    }

    /// Sends what an exchange that begins needs from this member.
    pub(super) fn send_due(&mut self) {
        let State::StartSync { due, .. } = &mut self.state else {
            return;
        };
        match due.take() {
            Some(Due::Start) => self.send_state(MessageKind::SyncStart, Bytes::new()),
            Some(Due::State) => self.announce(),
            None => {}
        }
    }

    fn announce(&mut self) {
        match self.app.state() {
            Ok(state) if state.is_empty() => self.leave("there is no state to send"),
            Ok(state) => self.send_state(MessageKind::State, state),
            Err(error) => self.sync_failed(&error),
        }
    }

    pub(super) fn collect_state(&mut self, sender: MemberId, payload: Bytes) {
        if self.member(sender).is_none() {
            return self.leave("state of a process that is not in the group");
        }
        let now_ms = self.now.monotonic_ms;
        let State::StartSync { states, wait, .. } = &mut self.state else {
            return;
        };
        *wait = Wait::since(now_ms);
        if states.insert(sender, payload).is_some() {
            return self.leave("second state of a member");
        }
        if states.len() == self.members.len() {
            let states: Vec<(MemberId, Bytes)> = mem::take(states).into_iter().collect();
            self.end_exchange(&states);
        }
    }

    fn end_exchange(&mut self, states: &[(MemberId, Bytes)]) {
        let own = states.iter().position(|(id, _)| self.local == Some(*id));
        let Some(own) = own else {
            return self.leave("the own state was not received");
        };
        let exchange = match self.with_app(|app, context| app.exchange(states, own, context)) {
            Ok(exchange) => exchange,
            Err(error) => return self.sync_failed(&error),
        };
        self.doubtful.clear();
        if exchange.is_leader {
            self.updates_under_way = Some(0);
            self.send_updates();
        }
        for (member, is_synced) in self.members.iter_mut().zip(exchange.synced) {
            member.is_synced = is_synced;
        }
        if self.members.get(own).is_some_and(|member| member.is_synced) {
            self.become_synced();
        } else {
            let update = State::Update {
                replay: Vec::new(),
                wait: Wait::since(self.now.monotonic_ms),
            };
            self.enter(update);
        }
        let kept = self.queue.iter().chain(&self.doubtful.messages);
        self.backlog.restart(kept, self.now.monotonic_ms);
        self.walk_queue();
    }

    /// Sends updates as long as few of them are under way, and the end of the update behind the last one. So they do not
    /// delay the writes of this node, which go between them, and only few of them are in memory. The next ones follow when all of
    /// them have come back: corosync then wakes this node once for all of them, and a join takes 7 % less.
    fn send_updates(&mut self) {
        while let Some(under_way) = self.updates_under_way
            && under_way < self.backlog.update_window()
        {
            let update = self.app.next_update();
            self.updates_under_way = update.as_ref().map(|update| under_way + update.len());
            match update {
                Some(payload) => self.send_state(MessageKind::Update, payload),
                None => self.send_state(MessageKind::UpdateComplete, Bytes::new()),
            }
        }
    }

    /// An update for others has come; the last own one under way makes room for the next ones.
    pub(super) fn update_passed(&mut self, sender: MemberId, size: usize) {
        self.backlog.add_update(size, self.now.monotonic_ms);
        if self.local == Some(sender)
            && let Some(under_way) = self.updates_under_way
        {
            let under_way = under_way.saturating_sub(size);
            self.updates_under_way = Some(under_way);
            if under_way == 0 {
                self.send_updates();
            }
        }
    }

    pub(super) fn record_update(&mut self, payload: &Bytes) {
        if let State::Update { wait, .. } = &mut self.state {
            *wait = Wait::since(self.now.monotonic_ms);
        }
        if let Err(error) = self.app.update(payload) {
            self.sync_failed(&error);
        }
    }

    /// Commits, then applies the messages that the synced members have applied meanwhile, in their order: first those of synced
    /// senders from queue 1, then all that came since, then the rest of queue 1.
    pub(super) fn complete_update(&mut self) {
        if let Err(error) = self.with_app(|app, context| app.commit(context)) {
            return self.sync_failed(&error);
        }
        let replay = match &mut self.state {
            State::Update { replay, .. } => mem::take(replay),
            _ => Vec::new(),
        };
        self.mark_all_synced();
        self.become_synced();
        self.app.discard();
        for queued in &replay {
            if self.mode() != Mode::Synced {
                return;
            }
            self.apply(queued);
        }
        self.walk_queue();
    }

    /// Applies the messages in queue 1. Messages of members that are not synced stay for the end of the update; those of
    /// processes that have left the group are dropped.
    pub(super) fn walk_queue(&mut self) {
        for queued in mem::take(&mut self.queue) {
            let Some(sender) = self.member(queued.sender) else {
                continue;
            };
            let is_next = sender.is_synced && !self.is_too_early(&queued);
            match &mut self.state {
                State::Synced { .. } if is_next => self.apply(&queued),
                State::Update { replay, .. } if is_next => replay.push(queued),
                _ => self.queue.push(queued),
            }
        }
    }

    /// Logs the names of silent members after a while, and leaves the group if they stay silent.
    pub(super) fn watch_sync(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let position = self
            .members
            .iter()
            .position(|member| self.local == Some(member.id));
        let stagger_ms = STAGGER_MS * position.unwrap_or(0) as u64;
        let Some((missing, wait)) = self.awaited() else {
            return;
        };
        let missing = names(&missing);
        let silent_ms = now_ms.saturating_sub(wait.progress_ms);
        if silent_ms >= LEAVE_AFTER_MS + stagger_ms {
            let reason = format!("no progress for {} s, missing: {missing}", silent_ms / 1000);
            self.leave(&reason);
        } else if silent_ms >= TOLD_AFTER_MS && !wait.is_told {
            if let State::StartSync { wait, .. } | State::Update { wait, .. } = &mut self.state {
                wait.is_told = true;
            }
            let text = format!("synchronisation waits for {missing}");
            self.log(LogLevel::Warn, text);
        }
    }

    /// The members that a synchronisation waits for, and since when.
    pub(super) fn awaited(&self) -> Option<(Vec<MemberId>, Wait)> {
        let ids = |is_awaited: &dyn Fn(&Member) -> bool| {
            let members = self.members.iter().filter(|member| is_awaited(member));
            members.map(|member| member.id).collect()
        };
        match &self.state {
            State::StartSync { states, wait, .. } => {
                Some((ids(&|member| !states.contains_key(&member.id)), *wait))
            }
            State::Update { wait, .. } => Some((ids(&|member| member.is_synced), *wait)),
            _ => None,
        }
    }

    pub(super) fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(super) fn mark_all_synced(&mut self) {
        for member in &mut self.members {
            member.is_synced = true;
        }
    }

    fn sync_failed(&mut self, error: &SyncError) {
        match error {
            SyncError::Inconsistent(reason) => self.leave(reason),
            SyncError::Store(reason) => self.stop(State::Error, reason),
        }
    }
}

fn names(members: &[MemberId]) -> String {
    let names: Vec<String> = members.iter().map(MemberId::to_string).collect();
    names.join(" ")
}
