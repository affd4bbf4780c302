//! The status group of a recording. Rings and addresses are data of other crates, and taken from the recording.

use bytes::Bytes;
use pmxcfs_dfsm::{
    core::{Machine, MemberId},
    status::{
        StatusGroup, StatusRequest, StatusStore,
        wire::{LOG, UPDATE, UpdateMessage},
    },
    wire::{Header, MessageKind, NormalMessage, StateMessage},
};

use super::{
    player::{Group, Player},
    recording::{Recording, Seen},
};

#[derive(Default)]
pub(crate) struct Soft {
    ring: Bytes,
    address: Bytes,
    keys: Vec<(Bytes, Bytes)>,
}

impl StatusStore for Soft {
    fn set(&mut self, _sender: MemberId, _key: &Bytes, _value: &Bytes) {}

    fn log(&mut self, _sender: MemberId, _entry: &Bytes) {}

    fn log_ring(&mut self) -> Bytes {
        self.ring.clone()
    }

    fn merge_logs(&mut self, _rings: &[(MemberId, Bytes)], _own: usize) {}

    fn set_members(&mut self, _members: &[MemberId]) {}

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        self.keys.clone()
    }

    fn own_address(&self) -> Bytes {
        self.address.clone()
    }

    fn disconnected(&mut self) {}
}

struct SoftGroup;

impl Group for SoftGroup {
    type App = StatusGroup<Soft>;

    fn start(
        &mut self,
        _former: Option<Machine<Self::App>>,
        _ahead: &[(f64, Seen)],
    ) -> Machine<Self::App> {
        Machine::new(StatusGroup::new(Soft::default()))
    }

    fn prepare(&mut self, machine: &mut Machine<Self::App>, reactions: &[Bytes]) {
        let soft = machine.app_mut().store_mut();
        let announced = reactions.iter().filter_map(key_and_value);
        let position = |key: &Bytes| soft.keys.iter().position(|(own, _)| own == key);
        let mut order: Vec<usize> = announced.filter_map(|(key, _)| position(&key)).collect();
        // The order in which keys are announced is that of a hash table.
        order.dedup();
        if order.len() == soft.keys.len() {
            soft.keys = order
                .iter()
                .map(|index| soft.keys[*index].clone())
                .collect();
        }
        for message in reactions {
            let kind = Header::decode(message).unwrap().kind;
            if kind == MessageKind::State {
                soft.ring = StateMessage::decode(message).unwrap().payload;
            }
            if let Some((key, value)) = key_and_value(message)
                && key == "nodeip"
            {
                soft.address = value;
            }
        }
    }

    fn request(
        &mut self,
        machine: &mut Machine<Self::App>,
        message: &Bytes,
        _ahead: &[(f64, Seen)],
    ) -> Option<StatusRequest> {
        let normal = NormalMessage::decode(message).unwrap();
        if normal.header.subtype == LOG {
            let entry = normal.payload;
            return Some(StatusRequest::Log { entry });
        }
        let (key, value) = key_and_value(message)?;
        let keys = &mut machine.app_mut().store_mut().keys;
        if !key.starts_with(b"rrd/") && key != "nodeip" {
            keys.retain(|(own, _)| *own != key);
            if !value.is_empty() {
                keys.push((key.clone(), value.clone()));
            }
        }
        Some(StatusRequest::Set { key, value })
    }

    /// Behind the key's NUL, C senders leave what was in their memory.
    fn normalise(&self, message: &Bytes) -> Bytes {
        let Some((key, _)) = key_and_value(message) else {
            return message.clone();
        };
        let mut bytes = message.to_vec();
        bytes[24 + key.len()..280].fill(0);
        Bytes::from(bytes)
    }
}

fn key_and_value(message: &Bytes) -> Option<(Bytes, Bytes)> {
    let normal = NormalMessage::decode(message).ok()?;
    if normal.header.kind != MessageKind::Normal || normal.header.subtype != UPDATE {
        return None;
    }
    let update = UpdateMessage::decode(&normal.payload).ok()?;
    Some((update.key, update.value))
}

pub(crate) fn replay(recording: &Recording) -> Vec<&'static str> {
    let events = recording.group("pve_kvstore_v1");
    let mut group = SoftGroup;
    let mut player = Player::new(&mut group, recording.node);
    player.run(&events);
    player.deviations
}
