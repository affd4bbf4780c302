//! What delivered messages do to the modelled daemon.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{MemberId, Mode},
    wire::{Header, MessageKind, NormalMessage, StateMessage, VerifyMessage},
};

use super::{AppMessage, Peer, PeerApp, Verdict, machine::Queued};
use crate::sim::{probe::Observation, replica::Act};

impl<P: PeerApp> Peer<P> {
    pub(super) fn delivered(&mut self, sender: MemberId, message: Bytes, out: &mut Vec<Act>) {
        if self.mode.is_error() {
            return;
        }
        if self.members.is_empty() {
            return self.leave("no membership yet", out);
        }
        let Ok(header) = Header::decode(&message) else {
            return self.leave("short message", out);
        };
        if header.protocol > P::PROTOCOL {
            return self.leave_in(Mode::VersionError, "newer protocol", out);
        }
        if header.protocol < P::PROTOCOL {
            return;
        }
        if header.kind == MessageKind::Normal {
            return match NormalMessage::decode(&message) {
                Ok(normal) => self.normal(sender, normal, message, out),
                Err(_) => self.leave("short normal message", out),
            };
        }
        match StateMessage::decode(&message) {
            Ok(state) if header.kind != MessageKind::SyncStart && state.epoch != self.epoch => {}
            Ok(state) => self.state_message(sender, state, out),
            Err(_) => self.leave("short state message", out),
        }
    }

    fn normal(&mut self, sender: MemberId, message: NormalMessage, raw: Bytes, out: &mut Vec<Act>) {
        if self.mode == Mode::Synced {
            return self.apply(sender, &message, out);
        }
        let Some(is_synced) = self.is_synced(sender) else {
            return self.leave("message of a process that is no member", out);
        };
        let is_late = self.mode == Mode::Update;
        if is_late {
            self.right_order.push((sender, message.count));
        }
        let queued = Queued {
            sender,
            message,
            raw,
            is_late,
            is_applied_elsewhere: false,
        };
        if is_late && is_synced {
            self.update_queue.push_back(queued);
        } else {
            self.insert(queued);
        }
    }

    /// By count, equal counts in order of arrival.
    fn insert(&mut self, queued: Queued) {
        let is_after = |other: &Queued| {
            let difference = other.message.count.wrapping_sub(queued.message.count) as u32;
            difference.cast_signed() > 0
        };
        let place = self.queue.iter().rposition(|other| !is_after(other));
        let place = place.map_or(0, |index| index + 1);
        self.queue.insert(place, queued);
    }

    fn apply(&mut self, sender: MemberId, normal: &NormalMessage, out: &mut Vec<Act>) {
        let mut outgoing = Vec::new();
        let local = self.local.unwrap_or(sender);
        let message = AppMessage {
            sender,
            subtype: normal.header.subtype,
            time_secs: normal.header.time_secs,
            payload: &normal.payload,
            now: self.now,
            local,
            is_lowest: self.is_lowest(),
            is_quorate: self.is_quorate,
        };
        let before = self.app.version();
        let verdict = self.app.deliver(&message, &mut outgoing);
        self.seen.push(Observation::Delivered {
            sender,
            count: normal.count,
            is_change: self.app.version() != before,
        });
        for (subtype, payload) in outgoing {
            self.send_normal(subtype, payload, out);
        }
        if sender == local
            && let Some(id) = self.waiters.remove(&normal.count)
        {
            let result = match verdict {
                Verdict::Done(result) | Verdict::Fail(result) => result,
                Verdict::Leave => Err(FsError::NotPermitted),
            };
            out.push(Act::Answer { id, result });
        }
        match verdict {
            Verdict::Done(_) => {}
            Verdict::Leave => self.leave("message could not be applied", out),
            Verdict::Fail(_) => self.leave_in(Mode::Error, "the store has failed", out),
        }
    }

    fn state_message(&mut self, sender: MemberId, message: StateMessage, out: &mut Vec<Act>) {
        match (self.mode, message.header.kind) {
            (Mode::StartSync, MessageKind::SyncStart) => {
                self.epoch = message.epoch;
                for member in &mut self.members {
                    member.state = None;
                }
                self.app.discard();
                let state = self.app.state();
                let digest = crate::sim::probe::digest(&state);
                self.seen.push(Observation::Announced { state: digest });
                self.send_state(MessageKind::State, state, out);
            }
            (Mode::StartSync, MessageKind::State) => self.collect(sender, message.payload, out),
            (Mode::Update, MessageKind::Update) => {
                if !self.app.update(&message.payload) {
                    self.leave("bad update", out);
                }
            }
            (Mode::Update, MessageKind::UpdateComplete) => self.complete(out),
            (Mode::Synced, MessageKind::UpdateComplete) => {
                self.mark_all_synced();
                self.walk_queue(out);
            }
            (Mode::Synced, MessageKind::VerifyRequest) => {
                self.verify_requested(sender, &message.payload, out);
            }
            (Mode::Synced, MessageKind::Verify) => self.compare(&message.payload, out),
            (Mode::StartSync | Mode::Update, MessageKind::VerifyRequest | MessageKind::Verify)
            | (Mode::Synced, _) => {}
            (mode, kind) => self.leave(&format!("{kind:?} in {mode:?}"), out),
        }
    }

    fn collect(&mut self, sender: MemberId, payload: Bytes, out: &mut Vec<Act>) {
        let Some(member) = self.members.iter_mut().find(|member| member.id == sender) else {
            return self.leave("state of a process that is no member", out);
        };
        if member.state.is_some() {
            return self.leave("second state of a member", out);
        }
        member.state = Some(payload).filter(|payload| !payload.is_empty());
        let states = self.members.iter().map(|member| {
            let state = member.state.clone()?;
            Some((member.id, state))
        });
        let Some(states) = states.collect::<Option<Vec<_>>>() else {
            return;
        };
        let own = states
            .iter()
            .position(|(id, _)| self.local == Some(*id))
            .expect("it is in its own list");
        let mut outgoing = Vec::new();
        let decision = self.app.exchange(&states, own, &mut outgoing);
        for (subtype, payload) in outgoing {
            self.send_normal(subtype, payload, out);
        }
        let Some(decision) = decision else {
            return self.leave("bad states", out);
        };
        self.seen.push(Observation::Exchanged {
            synced: decision.synced.clone(),
            is_leader: !decision.messages.is_empty(),
        });
        for (kind, payload) in decision.messages {
            self.send_state(kind, payload, out);
        }
        self.note_survivors();
        let is_synced = decision.synced[own];
        for (member, is_synced) in self.members.iter_mut().zip(decision.synced) {
            member.is_synced = is_synced;
        }
        if is_synced {
            self.enter(Mode::Synced, out);
            self.forget_states();
        } else {
            self.right_order.clear();
            self.enter(Mode::Update, out);
        }
        self.walk_queue(out);
    }

    /// If somebody who applied at once what this daemon only queued was in the exchange, it is wrong to apply that again.
    fn note_survivors(&mut self) {
        let witnesses = std::mem::take(&mut self.witnesses);
        let is_here = |id: &MemberId| self.members.iter().any(|member| member.id == *id);
        let has_witness = witnesses.iter().any(is_here);
        for queued in &mut self.queue {
            queued.is_applied_elsewhere |= queued.is_late && has_witness;
            queued.is_late = false;
        }
    }

    fn forget_states(&mut self) {
        self.app.discard();
        for member in &mut self.members {
            member.state = None;
        }
    }

    /// Applies what waits in an order of its own.
    fn complete(&mut self, out: &mut Vec<Act>) {
        if !self.app.commit(self.now.monotonic_ms / 1000) {
            return self.leave("commit failed", out);
        }
        let state = self.app.state_digest();
        self.seen.push(Observation::Committed { state });
        self.note_wrong_order();
        self.mark_all_synced();
        self.enter(Mode::Synced, out);
        while let Some(queued) = self.update_queue.pop_front() {
            self.note_repetition(&queued);
            self.apply(queued.sender, &queued.message, out);
            if self.mode != Mode::Synced {
                self.update_queue.clear();
                return self.leave("left while the queue was delivered", out);
            }
        }
        self.walk_queue(out);
        if self.mode == Mode::Synced {
            self.forget_states();
        }
    }

    fn note_wrong_order(&mut self) {
        let name = |queued: &Queued| (queued.sender, queued.message.count);
        let early = self.queue.iter().filter(|queued| !queued.is_late);
        let mut right = std::mem::take(&mut self.right_order);
        right.extend(early.map(name));
        let own = self.update_queue.iter().chain(&self.queue).map(name);
        if !own.eq(right) {
            let why = "applies what came during the update in another order";
            self.seen.push(Observation::Strayed { why });
        }
    }

    pub(super) fn walk_queue(&mut self, out: &mut Vec<Act>) {
        let mut index = 0;
        while let Some(queued) = self.queue.get(index) {
            match (self.is_synced(queued.sender), self.mode) {
                (None, _) => {
                    self.queue.remove(index);
                }
                (Some(false), _) => index += 1,
                (Some(true), Mode::Synced) => {
                    let queued = self.queue.remove(index);
                    self.note_repetition(&queued);
                    self.apply(queued.sender, &queued.message, out);
                }
                (Some(true), Mode::Update) => {
                    let queued = self.queue.remove(index);
                    self.right_order.push((queued.sender, queued.message.count));
                    self.update_queue.push_back(queued);
                }
                (Some(true), _) => return,
            }
        }
    }

    fn note_repetition(&mut self, queued: &Queued) {
        if queued.is_applied_elsewhere {
            let why = "applies again what it only queued before";
            self.seen.push(Observation::Strayed { why });
        }
    }

    fn is_synced(&self, sender: MemberId) -> Option<bool> {
        let member = self.members.iter().find(|member| member.id == sender)?;
        Some(member.is_synced)
    }

    fn verify_requested(&mut self, sender: MemberId, payload: &Bytes, out: &mut Vec<Act>) {
        let Ok(request) = VerifyMessage::decode_request(payload) else {
            return self.leave("bad verification request", out);
        };
        if !P::IS_VERIFIED {
            return;
        }
        self.verify.saved = self.app.checksum();
        self.verify.saved_id = request.id;
        self.verify.saved_epoch = self.epoch;
        if self.local == Some(sender) {
            let answer = VerifyMessage {
                id: request.id,
                checksum: Some(self.verify.saved),
            };
            self.send_state(MessageKind::Verify, answer.encode(), out);
        }
    }

    fn compare(&mut self, payload: &Bytes, out: &mut Vec<Act>) {
        if !P::IS_VERIFIED {
            return;
        }
        let Ok(message) = VerifyMessage::decode_checksum(payload) else {
            return self.leave("bad verification", out);
        };
        let is_saved = message.id == self.verify.saved_id && self.epoch == self.verify.saved_epoch;
        if is_saved && message.checksum != Some(self.verify.saved) {
            self.leave("checksum mismatch", out);
        }
    }
}
