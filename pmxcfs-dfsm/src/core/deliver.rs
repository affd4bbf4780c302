//! Delivered messages, in each mode.

use bytes::Bytes;

use super::{
    LogLevel, Machine, MemberId, Mode,
    mode::State,
    queue::{self, Queued},
};
use crate::{
    app::{Application, Delivery, Verdict},
    wire::{Header, MessageKind, NormalMessage, StateMessage},
};

impl<A: Application> Machine<A> {
    pub(super) fn delivered(&mut self, sender: MemberId, message: Bytes) {
        if self.mode().is_error() {
            return;
        }
        if self.members.is_empty() {
            return self.leave("message before the first membership");
        }
        let Ok(header) = Header::decode(&message) else {
            return self.ignore(sender, "shorter than a header");
        };
        if header.protocol > A::PROTOCOL {
            let reason = format!(
                "{sender} speaks protocol {}, this daemon {}",
                header.protocol,
                A::PROTOCOL
            );
            return self.stop(State::VersionError, &reason);
        }
        if header.protocol < A::PROTOCOL {
            return self.ignore(sender, "older protocol");
        }
        match header.kind {
            MessageKind::Normal => match NormalMessage::decode(&message) {
                Ok(normal) => self.normal(Queued {
                    sender,
                    message: normal,
                    raw: message,
                    has_lost_receiver: false,
                }),
                Err(_) => self.ignore(sender, "shorter than a message count"),
            },
            kind => match StateMessage::decode(&message) {
                Ok(state) if kind != MessageKind::SyncStart && state.epoch != self.epoch => {}
                Ok(state) => self.state_message(sender, state),
                Err(_) => self.leave("state message shorter than its header"),
            },
        }
    }

    fn normal(&mut self, queued: Queued) {
        if self.local == Some(queued.sender) {
            self.in_flight.remove(&queued.message.count);
        }
        if self.mode() == Mode::Synced && self.is_too_early(&queued) {
            return queue::insert(&mut self.queue, queued);
        }
        self.backlog.add(&queued);
        if self.mode() == Mode::Synced {
            self.apply(&queued);
            if self.members.len() == 1 {
                self.walk_queue();
            }
            return;
        }
        if self.member(queued.sender).is_none() {
            return self.leave("message of a process that is not in the group");
        }
        match &mut self.state {
            // The synced members apply this now, whoever its sender is.
            State::Update { replay, .. } => replay.push(queued),
            _ => queue::insert(&mut self.queue, queued),
        }
        if let Some(reason) = self.backlog.excess(self.mode()) {
            self.leave(&reason);
        }
    }

    /// Has the application apply a message, and answer the request that it belongs to.
    pub(super) fn apply(&mut self, queued: &Queued) {
        let (sender, message) = (queued.sender, &queued.message);
        let is_own = self.local == Some(sender);
        let request = is_own.then(|| self.pending.get(&message.count).copied());
        let delivery = Delivery {
            sender,
            count: message.count,
            subtype: message.header.subtype,
            time_secs: message.header.time_secs,
            payload: &message.payload,
            request: request.flatten(),
        };
        match self.with_app(|app, context| app.deliver(&delivery, context)) {
            Verdict::Done if is_own => drop(self.pending.remove(&message.count)),
            Verdict::Done => {}
            Verdict::Leave => self.leave("a message could not be applied here"),
            Verdict::Fail => self.stop(State::Error, "the local store has failed"),
        }
    }

    fn state_message(&mut self, sender: MemberId, message: StateMessage) {
        let StateMessage {
            header,
            epoch,
            payload,
        } = message;
        match (self.mode(), header.kind) {
            (Mode::StartSync, MessageKind::SyncStart) => self.sync_start(sender, epoch),
            (Mode::StartSync, MessageKind::State) => self.collect_state(sender, payload),
            (Mode::Update, MessageKind::Update) => self.record_update(&payload),
            (Mode::Update, MessageKind::UpdateComplete) => self.complete_update(),
            (Mode::Synced, MessageKind::UpdateComplete) => {
                self.mark_all_synced();
                self.walk_queue();
            }
            (Mode::Synced, MessageKind::Update) => self.update_passed(sender, payload.len()),
            (Mode::Synced, MessageKind::VerifyRequest) => {
                self.verify_requested(sender, &payload);
            }
            (Mode::Synced, MessageKind::Verify) => self.compare_checksum(&payload),
            (Mode::StartSync | Mode::Update, MessageKind::VerifyRequest | MessageKind::Verify)
            | (Mode::Synced, _)
            // This member is past its exchange already.
            | (Mode::Update, MessageKind::SyncStart) => {}
            (mode, kind) => {
                let reason = format!("{kind:?} of {sender} in mode {mode:?}");
                self.leave(&reason);
            }
        }
    }

    /// C peers leave the group over such a message, and none applies it; the members that stay bring them up to date.
    fn ignore(&mut self, sender: MemberId, reason: &str) {
        let text = format!("ignore message of {sender}: {reason}");
        self.log(LogLevel::Warn, text);
    }
}
