//! Local requests whose message is on its way.
//!
//! A message is matched by node id, process id and count together: the same count of another process is another message.
//! A request leaves the table with its answer, so it is answered once.

use std::collections::BTreeMap;

use pmxcfs_api_types::FsError;

use super::{Action, Actions, MemberId, RequestId};

#[derive(Debug)]
struct Pending {
    id: RequestId,
    /// What a success returns, if it is not what the last message returns.
    reply: Option<u32>,
}

/// Requests by the message whose delivery answers them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: BTreeMap<(MemberId, u64), Pending>,
}

impl Requests {
    pub(super) fn insert(
        &mut self,
        sender: MemberId,
        count: u64,
        id: RequestId,
        reply: Option<u32>,
    ) {
        self.pending.insert((sender, count), Pending { id, reply });
    }

    /// The request that a message carries out.
    pub(super) fn find(&self, sender: MemberId, count: u64) -> Option<RequestId> {
        let pending = self.pending.get(&(sender, count))?;
        Some(pending.id)
    }

    /// The message with this count was applied, or will never be.
    pub(super) fn answer<N>(
        &mut self,
        sender: MemberId,
        count: u64,
        result: Result<u32, FsError>,
        out: &mut Actions<N>,
    ) {
        if let Some(pending) = self.pending.remove(&(sender, count)) {
            let result = result.map(|value| pending.reply.unwrap_or(value));
            out.push(Action::Answer {
                id: pending.id,
                result,
            });
        }
    }

    /// None of the messages will be matched any more.
    pub(super) fn answer_all<N>(&mut self, error: FsError, out: &mut Actions<N>) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            out.push(Action::Answer {
                id: pending.id,
                result: Err(error),
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }
}
