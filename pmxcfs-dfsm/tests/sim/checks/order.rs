//! Messages of one sender are applied in its order, each once (invariant 9), and none in an error mode (invariant 11).
//!
//! Allowed to C daemons: a C sender that sends again what waits in its queue makes everybody apply that twice. What a C
//! member sends while it is not synced is applied by synced members where it comes, which may be before what it sent
//! earlier. A C receiver applies a message again that it has kept in its queue, and has then strayed.

use std::collections::{HashMap, HashSet};

use pmxcfs_dfsm::{
    core::{MemberId, Mode},
    wire::{Header, MessageKind, NormalMessage},
};

use super::Strays;
use crate::sim::{group::Fed, probe::Observation};

#[derive(Default)]
pub(super) struct Order {
    /// Last count, by receiver and sender.
    last: HashMap<(MemberId, MemberId), u64>,
    sent: HashSet<(MemberId, u64)>,
    /// Sent more than once, by C daemons.
    repeated: HashSet<(MemberId, u64)>,
    /// Last count sent by a C daemon while it was not synced.
    sent_unsynced: HashMap<MemberId, u64>,
}

impl Order {
    pub(super) fn look(&mut self, fed: &Fed, strays: &Strays) {
        for message in &fed.sent {
            let is_normal =
                Header::decode(message).is_ok_and(|header| header.kind == MessageKind::Normal);
            if let (true, Ok(message)) = (is_normal, NormalMessage::decode(message)) {
                let name = (fed.id, message.count);
                if !self.sent.insert(name) && !fed.is_ours {
                    self.repeated.insert(name);
                }
                if !fed.is_ours && fed.before != Mode::Synced {
                    self.sent_unsynced.insert(fed.id, message.count);
                }
            }
        }
        for observation in &fed.observations {
            let Observation::Delivered { sender, count, .. } = observation else {
                continue;
            };
            // Made up by the story.
            if *count == 0 {
                continue;
            }
            assert!(
                !fed.before.is_error(),
                "order: applied in mode {:?}",
                fed.before
            );
            let last = self.last.entry((fed.id, *sender)).or_insert(0);
            let unsynced = self.sent_unsynced.get(sender);
            let is_allowed = self.repeated.contains(&(*sender, *count))
                || unsynced.is_some_and(|later| count < later)
                || (!fed.is_ours && (strays.has_strayed(fed.node) || strayed_now(fed)));
            assert!(
                count > last || is_allowed,
                "order: {} applied message {count} of {sender} after {last}",
                fed.id
            );
            *last = (*last).max(*count);
        }
    }
}

fn strayed_now(fed: &Fed) -> bool {
    let mut seen = fed.observations.iter();
    seen.any(|observation| matches!(observation, Observation::Strayed { .. }))
}
