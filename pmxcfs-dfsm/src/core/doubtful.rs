//! Messages that were to be replayed when the membership changed.
//!
//! The synced members have applied them at once. As long as one of those witnesses stays, the next exchange carries their
//! effects. When the last one goes before that exchange has ended, nobody here has applied them. Then those of members
//! that were not synced wait in queue 1 again, where C peers have them; the others are gone with their senders.

use super::{MemberId, queue::Queued};

/// Messages that the next exchange decides about.
#[derive(Debug, Default)]
pub(super) struct Doubtful {
    pub(super) messages: Vec<Queued>,
    /// Members that have applied them.
    witnesses: Vec<MemberId>,
}

impl Doubtful {
    /// Keeps a replay that the membership has ended.
    pub(super) fn keep(&mut self, replay: Vec<Queued>, synced: Vec<MemberId>) {
        self.messages = replay;
        self.messages
            .retain(|queued| !synced.contains(&queued.sender));
        self.witnesses = synced;
    }

    /// The group has these members now. Gives the messages if no witness is among them.
    pub(super) fn abandoned(&mut self, ids: &[MemberId]) -> Vec<Queued> {
        if self.witnesses.iter().any(|witness| ids.contains(witness)) {
            return Vec::new();
        }
        std::mem::take(&mut self.messages)
    }

    /// An exchange has ended, or all members drop the messages that wait.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.witnesses.clear();
    }
}
