//! The status group of the modelled daemon.

use bytes::Bytes;
use pmxcfs_dfsm::{
    core::MemberId,
    status::{
        StatusRequest,
        wire::{LOG, UPDATE, UpdateMessage},
    },
};
use pmxcfs_memdb::Digest;

use super::{AppMessage, Decision, PeerApp, Verdict};
use crate::sim::soft::Soft;
use pmxcfs_api_types::FsError;

#[derive(Debug)]
pub(crate) struct CStatus {
    pub(crate) soft: Soft,
}

impl PeerApp for CStatus {
    type Request = StatusRequest;

    const PROTOCOL: u32 = 0;
    const IS_VERIFIED: bool = false;
    const NEEDS_QUORUM: bool = false;

    fn messages(&mut self, request: StatusRequest) -> (Vec<(u16, Bytes)>, bool) {
        let message = match request {
            StatusRequest::Set { key, value } => update(key, value),
            StatusRequest::Log { entry } => (LOG, entry),
        };
        (vec![message], false)
    }

    fn deliver(&mut self, message: &AppMessage<'_>, _outgoing: &mut Vec<(u16, Bytes)>) -> Verdict {
        let done: Result<u32, FsError> = Ok(0);
        if message.sender != message.local {
            match message.subtype {
                UPDATE => {
                    if let Ok(update) = UpdateMessage::decode(message.payload) {
                        self.soft
                            .set_peer(message.sender, &update.key, &update.value);
                    }
                }
                LOG => self.soft.add_log(message.payload, None),
                _ => {}
            }
        }
        Verdict::Done(done)
    }

    fn state(&mut self) -> Bytes {
        self.soft.ring()
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        outgoing: &mut Vec<(u16, Bytes)>,
    ) -> Option<Decision> {
        self.soft.merge(states, own);
        let keys = self.soft.keys().into_iter();
        outgoing.extend(keys.map(|(key, value)| update(key, value)));
        Some(Decision {
            synced: vec![true; states.len()],
            messages: Vec::new(),
        })
    }

    fn update(&mut self, _payload: &Bytes) -> bool {
        false
    }

    fn commit(&mut self, _now_secs: u64) -> bool {
        true
    }

    fn discard(&mut self) {}

    fn checksum(&mut self) -> Digest {
        Digest::default()
    }

    fn members_changed(&mut self, members: &[MemberId]) {
        self.soft.members = members.to_vec();
    }

    fn became_synced(&mut self, outgoing: &mut Vec<(u16, Bytes)>) {
        let address = self.soft.address();
        outgoing.push(update(Bytes::from_static(b"nodeip"), address));
    }

    fn version(&self) -> u64 {
        0
    }

    fn state_digest(&self) -> u64 {
        0
    }
}

fn update(key: Bytes, value: Bytes) -> (u16, Bytes) {
    (UPDATE, UpdateMessage { key, value }.encode())
}
