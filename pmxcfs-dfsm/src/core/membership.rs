//! What a change of the membership does.
//!
//! Everything that belongs to the former membership ends here; [`Machine::membership`] says what is kept.

use bytes::Bytes;
use pmxcfs_api_types::FsError;

use super::{
    Actions, Machine, MemberId, Mode,
    machine::{Member, is_normal},
    mode::{State, Wait},
};
use crate::{
    app::Application,
    wire::{Epoch, MessageKind},
};

impl<A: Application> Machine<A> {
    /// A membership change. Kept: queue 1 unless somebody joined, own requests, normal messages not yet sent. Dropped:
    /// states, recorded updates, the verification, state messages not yet sent, and the replay unless nobody is left who
    /// has applied it.
    pub(super) fn membership(
        &mut self,
        mut ids: Vec<MemberId>,
        has_joined: bool,
        out: &mut Actions<A::Notice>,
    ) {
        self.epoch_count = self.epoch_count.wrapping_add(1);
        let Some(local) = self.local else {
            return;
        };
        self.epoch = Epoch {
            number: self.epoch_count,
            time_secs: self.now.wall_secs,
            node: local.node,
            pid: local.pid,
        };
        self.verifier.forget();
        self.drop_replay(&ids);
        if self.mode().is_error() {
            return;
        }
        self.backoff.joined();
        ids.sort_unstable();
        ids.dedup();
        self.note_departures(&ids);
        self.lowest_node = ids.first().map_or(0, |first| first.node);
        self.app.discard();
        self.members = ids.iter().copied().map(Member::unsynced).collect();
        self.outbox.retain(is_normal);
        if !ids.contains(&local) {
            if self.mode() != Mode::Start {
                self.leave("this process is not in its group any more", out);
            }
            return;
        }
        if ids.len() > 1 {
            self.begin_sync(local, has_joined, out);
        } else {
            self.stay_alone(out);
        }
        if !self.mode().is_error() {
            self.with_app(out, |app, context| app.members_changed(&ids, context));
        }
    }

    fn begin_sync(&mut self, local: MemberId, has_joined: bool, out: &mut Actions<A::Notice>) {
        if has_joined {
            self.send_queue_again(local, out);
        }
        self.enter(
            State::StartSync {
                states: std::collections::BTreeMap::new(),
                is_announced: false,
                wait: Wait::since(self.now.monotonic_ms),
            },
            out,
        );
        if local.node == self.lowest_node {
            self.send_state(MessageKind::SyncStart, Bytes::new(), out);
        }
    }

    fn note_departures(&mut self, ids: &[MemberId]) {
        let left = self.members.iter().map(|member| member.id);
        let left = left.filter(|id| !ids.contains(id)).map(|id| id.node);
        let left: Vec<u32> = left.collect();
        if !left.is_empty() {
            self.queue.note_departure(&left);
        }
    }

    /// Everybody empties queue 1, and sends again what is its own. Not so what a node may have applied that left and is
    /// back: when hosts are cut off from each other, one side may have received the end of an exchange that the other side
    /// has not. Then the outcome is not known, and to apply it twice would be worse.
    fn send_queue_again(&mut self, local: MemberId, out: &mut Actions<A::Notice>) {
        for queued in self.queue.take() {
            if queued.sender != local {
                continue;
            }
            let count = queued.message.count;
            let is_back = |node: &u32| self.members.iter().any(|member| member.id.node == *node);
            if queued.departed.iter().any(is_back) {
                self.requests.answer(local, count, Err(FsError::Busy), out);
            } else {
                self.in_flight.insert(count);
                self.send(queued.raw, out);
            }
        }
    }

    fn stay_alone(&mut self, out: &mut Actions<A::Notice>) {
        self.mark_all_synced();
        self.become_synced(out);
        self.walk_queue(out);
    }

    /// What was to be replayed was applied at once by whoever was synced. If one of them is still here, the next exchange
    /// carries that. If none is, nobody here has applied it, and what came from members that were not synced waits again,
    /// as on C peers; the others are gone with their messages.
    fn drop_replay(&mut self, ids: &[MemberId]) {
        let State::Update { replay, .. } = &mut self.state else {
            return;
        };
        let replay = std::mem::take(replay);
        let synced: Vec<MemberId> = self
            .members
            .iter()
            .filter(|member| member.is_synced)
            .map(|member| member.id)
            .collect();
        if synced.iter().any(|id| ids.contains(id)) {
            return;
        }
        for queued in replay {
            if !synced.contains(&queued.sender) {
                self.queue.insert(queued);
            }
        }
    }
}
