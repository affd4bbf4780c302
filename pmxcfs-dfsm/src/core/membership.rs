//! Changes of the membership.
//!
//! Everything that belongs to the former membership ends here; [`Machine::membership`] lists the exceptions.

use pmxcfs_api_types::FsError;

use super::{
    Machine, MemberId, Mode,
    machine::{Member, is_normal},
    mode::{Due, State, Wait},
    queue,
};
use crate::{app::Application, wire::Epoch};

impl<A: Application> Machine<A> {
    /// A membership change. Kept: queue 1 unless somebody joined, own requests, normal messages not yet sent. Dropped:
    /// states, recorded updates, the verification, state messages not yet sent, and the replay, unless all who have applied
    /// it go.
    pub(super) fn membership(&mut self, mut ids: Vec<MemberId>, has_joined: bool) {
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
        self.backlog.note_mode(self.mode());
        self.end_replay(&ids, has_joined);
        if self.mode().is_error() {
            return;
        }
        self.backoff.joined();
        ids.sort_unstable();
        ids.dedup();
        if self.members.iter().any(|member| !ids.contains(&member.id)) {
            // They may have applied the messages that wait.
            for queued in &mut self.queue {
                queued.has_lost_receiver = true;
            }
            if self.mode() != Mode::Synced {
                // Nor is it known what else they have.
                self.incomplete_since_ms = Some(self.now.monotonic_ms);
            }
        }
        self.lowest_node = ids.first().map_or(0, |first| first.node);
        self.discard();
        self.members = ids.iter().copied().map(Member::unsynced).collect();
        self.outbox.retain(is_normal);
        if !ids.contains(&local) {
            if self.mode() != Mode::Start {
                self.leave("this process is not in its group any more");
            }
            return;
        }
        if ids.len() > 1 {
            self.begin_sync(local, has_joined);
        } else {
            self.stay_alone();
        }
        let kept = self.queue.iter().chain(&self.doubtful.messages);
        self.backlog.restart(kept, self.now.monotonic_ms);
        if !self.mode().is_error() {
            self.app.members_changed(&ids);
        }
    }

    fn begin_sync(&mut self, local: MemberId, has_joined: bool) {
        if has_joined {
            self.send_queue_again(local);
        }
        self.enter(State::StartSync {
            states: std::collections::BTreeMap::new(),
            due: (local.node == self.lowest_node).then_some(Due::Start),
            is_announced: false,
            wait: Wait::since(self.now.monotonic_ms),
        });
    }

    /// All members empty queue 1, and each sends its own messages again. Messages that a departed member may have applied are not
    /// resent: when hosts are cut off from each other, one side may have received the end of an exchange that the other side
    /// has not, and have applied the messages that waited. If that side came back, a resent message would be applied twice. Where data may
    /// differ that does no harm, while a message that is not sent again would be missing.
    fn send_queue_again(&mut self, local: MemberId) {
        for queued in std::mem::take(&mut self.queue) {
            if queued.sender != local {
                continue;
            }
            let count = queued.message.count;
            if A::IS_EXACT && queued.has_lost_receiver {
                self.fail_request(count, FsError::Busy);
            } else {
                self.in_flight.insert(count);
                self.send(queued.raw);
            }
        }
    }

    fn stay_alone(&mut self) {
        self.mark_all_synced();
        self.become_synced();
        self.walk_queue();
    }

    fn end_replay(&mut self, ids: &[MemberId], has_joined: bool) {
        if let State::Update { replay, .. } = &mut self.state {
            let replay = std::mem::take(replay);
            let synced = self.members.iter().filter(|member| member.is_synced);
            let synced = synced.map(|member| member.id).collect();
            self.doubtful.keep(replay, synced);
        }
        if has_joined {
            self.doubtful.clear();
        }
        for queued in self.doubtful.abandoned(ids) {
            queue::insert(&mut self.queue, queued);
        }
    }
}
