//! What the messages of the status group do.

use std::convert::Infallible;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::Digest;

use super::wire::{LOG, UPDATE, UpdateMessage};
use crate::{
    app::{Application, Context, Delivery, Exchange, Outcome, Outgoing, Prepared, SyncError},
    core::{LogLevel, MemberId},
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

    /// Who is in the group now.
    fn set_members(&mut self, members: &[MemberId]);

    /// Keys and values that this node has set, without samples and address.
    fn own_keys(&self) -> Vec<(Bytes, Bytes)>;

    /// Value that announces this node's address, with its NUL.
    fn own_address(&self) -> Bytes;
}

/// What processes of this node want the group to know. Local tables have been changed before.
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

/// The group needs nothing of the rest of the daemon.
pub type StatusNotice = Infallible;

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
    type Notice = StatusNotice;

    const PROTOCOL: u32 = 0;
    const NEEDS_QUORUM: bool = false;
    const IS_VERIFIED: bool = false;
    const HAS_UPDATES: bool = false;
    /// Nobody waits for them, and there may be no exchange for a long time that repeats what they say.
    const KEEPS_UNSENT: bool = true;

    fn prepare(
        &mut self,
        request: StatusRequest,
        _context: &mut Context<'_, StatusNotice>,
    ) -> Result<Prepared, FsError> {
        let message = match request {
            StatusRequest::Set { key, value } => update(key, value),
            StatusRequest::Log { entry } => Outgoing {
                subtype: LOG,
                payload: entry,
            },
        };
        Ok(Prepared::Announce(vec![message]))
    }

    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_, StatusNotice>,
    ) -> Outcome {
        let sender = delivery.sender;
        if sender == context.local {
            return Outcome::Applied(Ok(0));
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
        Outcome::Applied(Ok(0))
    }

    fn state(&mut self) -> Result<Bytes, SyncError> {
        Ok(self.store.log_ring())
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        context: &mut Context<'_, StatusNotice>,
    ) -> Result<Exchange, SyncError> {
        self.store.merge_logs(states, own);
        for (key, value) in self.store.own_keys() {
            context.send(update(key, value));
        }
        Ok(Exchange {
            synced: vec![true; states.len()],
            messages: Vec::new(),
        })
    }

    fn update(&mut self, _payload: &Bytes) -> Result<(), SyncError> {
        let reason = "the status group has no updates of the synchronisation";
        Err(SyncError::Inconsistent(reason.to_owned()))
    }

    fn commit(&mut self, _context: &mut Context<'_, StatusNotice>) -> Result<(), SyncError> {
        Ok(())
    }

    fn discard(&mut self) {}

    fn checksum(&mut self) -> Digest {
        Digest::default()
    }

    fn members_changed(&mut self, members: &[MemberId], _context: &mut Context<'_, StatusNotice>) {
        self.store.set_members(members);
    }

    fn became_synced(&mut self, context: &mut Context<'_, StatusNotice>) {
        let address = self.store.own_address();
        context.send(update(Bytes::from_static(ADDRESS_KEY), address));
    }
}

fn update(key: Bytes, value: Bytes) -> Outgoing {
    Outgoing {
        subtype: UPDATE,
        payload: UpdateMessage { key, value }.encode(),
    }
}
