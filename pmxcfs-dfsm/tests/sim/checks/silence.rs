//! No member under test sends a write that reaches anybody between the end of an exchange and the end of its update unless
//! it is synced itself. This is what C members cannot cope with (they apply it in another order, or twice), so they never
//! stray because of a member under test.

use std::collections::HashMap;

use pmxcfs_dfsm::{
    core::{MemberId, Mode},
    wire::{Header, MessageKind},
};

use super::Strays;
use crate::sim::{
    group::{Fed, What},
    probe::Observation,
};

#[derive(Default)]
pub(super) struct Silence {
    /// The last membership and who is synced in it, as each process knows it.
    synced: HashMap<MemberId, Vec<(MemberId, bool)>>,
}

impl Silence {
    pub(super) fn look(&mut self, fed: &Fed, strays: &Strays) {
        match &fed.what {
            What::Membership(members) => {
                let mut members = members.clone();
                members.sort_unstable();
                let unsynced = members.into_iter().map(|id| (id, false)).collect();
                self.synced.insert(fed.id, unsynced);
            }
            What::Message { sender, message } if fed.before == Mode::Update => {
                let is_normal =
                    Header::decode(message).is_ok_and(|header| header.kind == MessageKind::Normal);
                let is_synced = self.synced.get(&fed.id).is_some_and(|members| {
                    members
                        .iter()
                        .any(|(id, is_synced)| id == sender && *is_synced)
                });
                let is_theirs = strays.is_peer(*sender) || is_injected(message);
                assert!(
                    !is_normal || is_synced || is_theirs,
                    "silence: {sender} writes while it is not synced, seen by {}",
                    fed.id
                );
            }
            _ => {}
        }
        for observation in &fed.observations {
            if let Observation::Exchanged { synced, .. } = observation
                && let Some(members) = self.synced.get_mut(&fed.id)
            {
                for (member, is_synced) in members.iter_mut().zip(synced) {
                    member.1 = *is_synced;
                }
            }
        }
    }
}

fn is_injected(message: &bytes::Bytes) -> bool {
    pmxcfs_dfsm::wire::NormalMessage::decode(message).is_ok_and(|message| message.count == 0)
}
