//! All members decide the same from the same states (invariant 4). One leader sends all updates of an epoch, then their
//! end, once (invariant 5). A member answers a start of a synchronisation with one state (invariant 2).

use std::collections::BTreeMap;

use pmxcfs_dfsm::{
    core::{MemberId, Mode},
    wire::{Epoch, Header, MessageKind, StateMessage},
};

use crate::sim::{
    cpg::{Ordered, Position},
    group::{Fed, What},
    probe::Observation,
};

type EpochKey = (u32, u32, u32, u32);

#[derive(Default)]
struct Updates {
    sender: Option<MemberId>,
    is_complete: bool,
}

#[derive(Default)]
pub(super) struct Exchanges {
    /// Who is synced and who leads, at each end of an exchange. Both groups have views of their own.
    decided: BTreeMap<(bool, Position), (Vec<bool>, Option<MemberId>)>,
    updates: BTreeMap<EpochKey, Updates>,
    /// States that are still to be sent, by sender and epoch. Both groups have epochs of their own.
    asked: BTreeMap<(MemberId, EpochKey), u32>,
}

fn key(epoch: Epoch) -> EpochKey {
    (epoch.number, epoch.time_secs, epoch.node, epoch.pid)
}

/// The message if it is one of the synchronisation.
fn state_message(message: &bytes::Bytes) -> Option<StateMessage> {
    let header = Header::decode(message).ok()?;
    if header.kind == MessageKind::Normal {
        return None;
    }
    StateMessage::decode(message).ok()
}

impl Exchanges {
    pub(super) fn ordered(&mut self, ordered: &Ordered) {
        let Some(message) = state_message(&ordered.message) else {
            return;
        };
        // Nobody but the story sends this.
        if message.epoch.pid == 77 {
            return;
        }
        let updates = self.updates.entry(key(message.epoch)).or_default();
        match message.header.kind {
            MessageKind::Update | MessageKind::UpdateComplete => {
                let sender = *updates.sender.get_or_insert(ordered.sender);
                assert_eq!(sender, ordered.sender, "exchange: two members lead");
                assert!(!updates.is_complete, "exchange: updates after their end");
                updates.is_complete = message.header.kind == MessageKind::UpdateComplete;
            }
            _ => {}
        }
    }

    pub(super) fn look(&mut self, fed: &Fed, is_status: bool) {
        self.compare_decisions(fed, is_status);
        if fed.is_ours {
            self.count_states(fed);
        }
    }

    /// Whoever is told to send a state sends one, unless it leaves or corosync does not take it.
    fn count_states(&mut self, fed: &Fed) {
        if let What::Message { message, .. } = &fed.what
            && fed.before == Mode::StartSync
            && let Some(message) = state_message(message)
            && message.header.kind == MessageKind::SyncStart
        {
            let name = (fed.id, key(message.epoch));
            *self.asked.entry(name).or_default() += 1;
        }
        for state in fed.sent.iter().filter_map(state_message) {
            if state.header.kind == MessageKind::State {
                let name = (fed.id, key(state.epoch));
                let left = self.asked.get_mut(&name).filter(|left| **left > 0);
                let left = left.expect("exchange: a state that nobody asked for");
                *left -= 1;
            }
        }
    }

    fn compare_decisions(&mut self, fed: &Fed, is_status: bool) {
        let Some(position) = fed.position else { return };
        for observation in &fed.observations {
            let Observation::Exchanged { synced, is_leader } = observation else {
                continue;
            };
            let decided = self
                .decided
                .entry((is_status, position))
                .or_insert_with(|| (synced.clone(), None));
            assert_eq!(&decided.0, synced, "exchange: decided differently");
            if *is_leader {
                let leader = *decided.1.get_or_insert(fed.id);
                assert_eq!(leader, fed.id, "exchange: two members lead");
            }
        }
    }
}
