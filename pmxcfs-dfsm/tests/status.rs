//! The application of soft state: each test shows one rule of how it sends, applies and announces.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and uses a part of the support"
)]

mod support;

use bytes::Bytes;
use pmxcfs_dfsm::{
    core::{Action, Event, Machine, MemberId, Mode, Now},
    status::{StatusGroup, StatusRequest, StatusStore, wire::UpdateMessage},
    wire::{MessageKind, NormalMessage},
};
use support::{manifest, read, vectors};

const SELF: MemberId = MemberId { node: 1, pid: 10 };
const PEER: MemberId = MemberId { node: 2, pid: 20 };

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[derive(Default)]
struct Soft {
    set: Vec<(Bytes, Bytes)>,
    logged: Vec<Bytes>,
    members: Vec<MemberId>,
}

impl StatusStore for Soft {
    fn set(&mut self, _sender: MemberId, key: &Bytes, value: &Bytes) {
        self.set.push((key.clone(), value.clone()));
    }

    fn log(&mut self, _sender: MemberId, entry: &Bytes) {
        self.logged.push(entry.clone());
    }

    fn log_ring(&mut self) -> Bytes {
        bytes("ring")
    }

    fn merge_logs(&mut self, _rings: &[(MemberId, Bytes)], _own: usize) {}

    fn set_members(&mut self, members: &[MemberId]) {
        self.members = members.to_vec();
    }

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        vec![(bytes("key"), bytes("value"))]
    }

    fn own_address(&self) -> Bytes {
        bytes("10.0.0.1\0")
    }

    fn disconnected(&mut self) {}
}

fn feed_status(machine: &mut Machine<StatusGroup<Soft>>, event: Event) -> Vec<Bytes> {
    let mut actions = machine.handle(Now::default(), event);
    actions.extend(machine.settle());
    machine.flush();
    multicasts(actions)
}

fn multicasts(actions: Vec<Action>) -> Vec<Bytes> {
    let messages = actions.into_iter().filter_map(|action| match action {
        Action::Multicast(message) => Some(message),
        _ => None,
    });
    messages.collect()
}

fn keys(messages: &[Bytes]) -> Vec<Bytes> {
    let normals = messages
        .iter()
        .filter_map(|message| NormalMessage::decode(message).ok());
    normals
        .filter(|message| message.header.kind == MessageKind::Normal)
        .map(|message| UpdateMessage::decode(&message.payload).unwrap().key)
        .collect()
}

/// A member on its own, with what it has announced.
fn alone() -> (Machine<StatusGroup<Soft>>, Vec<Bytes>) {
    let mut machine = Machine::new(StatusGroup::new(Soft::default()));
    feed_status(&mut machine, Event::Connected { local: SELF });
    let alone = Event::Membership {
        members: vec![SELF],
        has_joined: true,
    };
    let announced = feed_status(&mut machine, alone);
    (machine, announced)
}

#[test]
fn keys_then_the_address_are_announced_after_an_exchange() {
    let (mut machine, announced) = alone();
    assert_eq!(keys(&announced), ["nodeip"]);
    let members = vec![SELF, PEER];
    let joined = Event::Membership {
        members: members.clone(),
        has_joined: true,
    };
    let start = feed_status(&mut machine, joined).remove(0);
    assert_eq!(machine.app().store().members, members);
    let deliver = |sender, message| Event::Delivered { sender, message };
    let state = feed_status(&mut machine, deliver(SELF, start)).remove(0);
    feed_status(&mut machine, deliver(SELF, state.clone()));
    let announced = feed_status(&mut machine, deliver(PEER, state));
    assert_eq!(keys(&announced), ["key", "nodeip"]);
    assert_eq!(machine.mode(), Mode::Synced);
}

#[test]
fn bad_status_messages_are_dropped_and_nobody_leaves() {
    for entry in manifest("dcdb/malformed/manifest.json") {
        if entry["group"] != "pve_kvstore_v1" {
            continue;
        }
        let name = entry["file"].as_str().unwrap();
        let message = Bytes::from(read(&vectors().join("dcdb/malformed").join(name)));
        let (mut machine, _announced) = alone();
        feed_status(
            &mut machine,
            Event::Delivered {
                sender: PEER,
                message,
            },
        );
        assert_eq!(machine.mode(), Mode::Synced, "{name}");
        assert!(machine.app().store().set.is_empty(), "{name}");
    }
}

#[test]
fn own_status_messages_are_not_applied_again() {
    let (mut machine, _announced) = alone();
    let request = StatusRequest::Set {
        key: bytes("k"),
        value: bytes("v"),
    };
    let actions = machine.request(Now::default(), request);
    let message = multicasts(actions).remove(0);
    let own = Event::Delivered {
        sender: SELF,
        message: message.clone(),
    };
    feed_status(&mut machine, own);
    assert!(machine.app().store().set.is_empty());
    let theirs = Event::Delivered {
        sender: PEER,
        message,
    };
    feed_status(&mut machine, theirs);
    assert_eq!(machine.app().store().set, [(bytes("k"), bytes("v"))]);
}
