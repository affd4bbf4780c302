//! The application of the status group.

use bytes::Bytes;

use super::wire::{LOG, UPDATE, UpdateMessage};
use crate::{
    app::{Application, Context, Delivery, Exchange, Outgoing, SyncError, Verdict},
    core::{LogLevel, MemberId, RequestId},
};

/// Key under which a node announces its address.
const ADDRESS_KEY: &[u8] = b"nodeip";

/// The soft state that the group replicates.
pub trait StatusStore {
    /// Another node set a key. Keys beginning with `rrd/` and `nodeip` are among them.
    fn set(&mut self, sender: MemberId, key: &Bytes, value: &Bytes);

    /// Another node logged something: one entry as it is in the ring, unchecked.
    fn log(&mut self, sender: MemberId, entry: &Bytes);

    /// The cluster log as it is sent, not empty.
    fn log_ring(&mut self) -> Bytes;

    /// Merges the logs of all members, in order of the members. The ring at position `own` is as it was when it was sent.
    fn merge_logs(&mut self, rings: &[(MemberId, Bytes)], own: usize);

    /// The group has these members now.
    fn set_members(&mut self, members: &[MemberId]);

    /// Keys and values that this node has set, without samples and address.
    fn own_keys(&self) -> Vec<(Bytes, Bytes)>;

    /// Value that announces this node's address, with its NUL.
    fn own_address(&self) -> Bytes;

    /// Corosync is gone: nothing is known of the other nodes any more.
    fn disconnected(&mut self);
}

/// News of this node for the other members. The local tables have them already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusRequest {
    /// A key was set.
    Set {
        /// The key.
        key: Bytes,
        /// Its value; empty removes it.
        value: Bytes,
    },
    /// Something was logged.
    Log {
        /// The entry as it is in the ring.
        entry: Bytes,
    },
}

/// The application of the status group.
#[derive(Debug)]
pub struct StatusGroup<S> {
    store: S,
}

impl<S: StatusStore> StatusGroup<S> {
    /// Replicates a store.
    pub const fn new(store: S) -> Self {
        Self { store }
    }

    /// The soft state.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The soft state.
    pub const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }
}

impl<S: StatusStore> Application for StatusGroup<S> {
    type Request = StatusRequest;

    const PROTOCOL: u32 = 0;
    /// No caller waits for a message, and for a long time there may be no exchange that repeats its news.
    const IS_EXACT: bool = false;

    fn prepare(
        &mut self,
        _id: RequestId,
        request: StatusRequest,
        context: &mut Context<'_>,
    ) -> Vec<Outgoing> {
        context.send(match request {
            StatusRequest::Set { key, value } => update(key, value),
            StatusRequest::Log { entry } => Outgoing {
                subtype: LOG,
                payload: entry,
            },
        });
        Vec::new()
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>) -> Verdict {
        let sender = delivery.sender;
        if sender == context.local {
            return Verdict::Done;
        }
        match delivery.subtype {
            UPDATE => match UpdateMessage::decode(delivery.payload) {
                Ok(message) => self.store.set(sender, &message.key, &message.value),
                Err(error) => {
                    let text = format!("ignore key of {sender}: {error}");
                    context.log(LogLevel::Warn, text);
                }
            },
            LOG => self.store.log(sender, delivery.payload),
            other => {
                let text = format!("ignore message {other} of {sender}");
                context.log(LogLevel::Warn, text);
            }
        }
        Verdict::Done
    }

    fn state(&mut self) -> Result<Bytes, SyncError> {
        Ok(self.store.log_ring())
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        context: &mut Context<'_>,
    ) -> Result<Exchange, SyncError> {
        self.store.merge_logs(states, own);
        for (key, value) in self.store.own_keys() {
            context.send(update(key, value));
        }
        Ok(Exchange {
            synced: vec![true; states.len()],
            is_leader: false,
        })
    }

    fn update(&mut self, _payload: &Bytes) -> Result<(), SyncError> {
        let reason = "the status group has no updates of the synchronisation";
        Err(SyncError::Inconsistent(reason.to_owned()))
    }

    fn members_changed(&mut self, members: &[MemberId]) {
        self.store.set_members(members);
    }

    fn became_synced(&mut self, context: &mut Context<'_>) {
        let address = self.store.own_address();
        context.send(update(Bytes::from_static(ADDRESS_KEY), address));
    }

    fn disconnected(&mut self) {
        self.store.disconnected();
    }
}

fn update(key: Bytes, value: Bytes) -> Outgoing {
    Outgoing {
        subtype: UPDATE,
        payload: UpdateMessage { key, value }.encode(),
    }
}
