//! What clients, peers and readers of documents see of the state.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Recorder, TestClock};
use bytes::Bytes;
use pmxcfs_api_types::limits::MAX_STATUS_VALUE_SIZE;
use pmxcfs_api_types::{FsError, NodeId};
use pmxcfs_logger::{Origin, Submission};
use pmxcfs_memdb::{RootState, Rules, Tree};
use pmxcfs_status::{Status, UpdateError};
use proptest::prelude::*;
use serde_json::Value;

const PEER: NodeId = NodeId(2);

struct Node {
    status: Status,
    sink: Recorder,
    peers: Recorder,
    clock: TestClock,
}

/// A node named `a` with the address 10.0.0.1.
fn node() -> Node {
    let (sink, peers, clock) = (
        Recorder::default(),
        Recorder::default(),
        TestClock::at(1000),
    );
    let address = Some("10.0.0.1".parse().unwrap());
    let status = Status::new("a", address, 1, Box::new(clock.clone()), sink.rrd_sink());
    status.set_peers(Box::new(peers.clone()));
    Node {
        status,
        sink,
        peers,
        clock,
    }
}

fn with_nodes(names: &[&'static str]) -> Node {
    let node = node();
    set_nodes(&node.status, names);
    node
}

fn set_nodes(status: &Status, names: &[&'static str]) {
    let list = (1..)
        .zip(names)
        .map(|(id, name)| (NodeId(id), Bytes::from_static(name.as_bytes())));
    status.replace_node_list(Bytes::from_static(b"lab"), 1, list);
}

fn members(status: &Status) -> Value {
    serde_json::from_slice(&status.members_document()).unwrap()
}

fn versions(status: &Status) -> Value {
    let tree = Tree::new(RootState::default(), Rules::Local);
    serde_json::from_slice(&status.version_document(&tree)).unwrap()
}

#[test]
fn accepted_changes_are_sent_in_their_order_and_refused_ones_are_not() {
    let node = node();
    let set = |key: &str, value: &'static [u8]| {
        node.status
            .set_value(key.as_bytes(), &Bytes::from_static(value))
    };
    assert_eq!(set("k", b"v\0"), Ok(()));
    assert_eq!(set("nodeip", b"bad"), Err(FsError::NoMemory));
    assert_eq!(set("nodeip", b""), Err(FsError::NoMemory));
    assert_eq!(set("rrd/x", b"bad"), Err(FsError::NoMemory));
    assert_eq!(
        set("large", &[b'x'; MAX_STATUS_VALUE_SIZE + 1]),
        Err(FsError::TooBig)
    );
    assert_eq!(set("nodeip", b"10.0.0.9\0"), Ok(()));
    assert_eq!(set("rrd/x", b"1\0"), Ok(()));
    assert_eq!(set("k", b""), Ok(()));
    for priority in [6, 8] {
        node.status.log(&Submission {
            priority,
            pid: 1,
            ident: b"root",
            tag: b"t",
            message: b"m",
        });
    }
    let sent = node.peers.0.lock().clone();
    assert_eq!(
        sent,
        [
            "update k=v\\x00",
            "update nodeip=10.0.0.9\\x00",
            "update rrd/x=1\\x00",
            "update k=",
            "log 2 m",
        ]
    );
    assert_eq!(*node.sink.0.lock(), ["rrd x=1\\x00"]);
}

#[test]
fn updates_of_peers_are_checked() {
    let node = with_nodes(&["a", "b"]);
    let apply = |sender, key, value| {
        node.status
            .apply_value(NodeId(sender), str::as_bytes(key), value)
    };
    assert_eq!(
        apply(3, "k", b"v"),
        Err(UpdateError::UnknownSender(NodeId(3)))
    );
    assert_eq!(apply(2, "rrd/x", b"1"), Err(UpdateError::BadValue));
    assert_eq!(apply(2, "rrd/x", b""), Err(UpdateError::BadValue));
    assert_eq!(apply(2, "nodeip", b"10.0.0.2"), Err(UpdateError::BadValue));
    assert_eq!(
        apply(2, "k", &[b'x'; MAX_STATUS_VALUE_SIZE + 1]),
        Err(UpdateError::LimitReached)
    );
    assert_eq!(apply(2, "k", &[b'x'; MAX_STATUS_VALUE_SIZE]), Ok(()));
    assert_eq!(apply(2, "rrd/x", b"1\0"), Ok(()));
    assert_eq!(node.status.rrd_document(), "x:1\n");
    assert_eq!(*node.sink.0.lock(), ["rrd x=1\\x00"]);
    assert_eq!(node.peers.0.lock().len(), 0, "nothing is sent on");
}

#[test]
fn keys_go_with_the_node_and_stay_with_a_renamed_one() {
    let node = with_nodes(&["a", "b"]);
    node.status.apply_value(PEER, b"k", b"v\0").unwrap();
    set_nodes(&node.status, &["a", "renamed"]);
    assert_eq!(node.status.value(b"renamed", b"k").unwrap(), "v\0");
    assert_eq!(versions(&node.status)["kvstore"]["renamed"]["k"], 0);
    set_nodes(&node.status, &["a"]);
    set_nodes(&node.status, &["a", "b"]);
    assert_eq!(node.status.value(b"b", b"k"), Err(FsError::NotFound));
}

#[test]
fn what_a_node_repeats_is_its_keys_and_its_address() {
    let node = with_nodes(&["a", "b"]);
    let version = members(&node.status)["version"].as_u64().unwrap();
    node.status
        .set_value(b"k", &Bytes::from_static(b"v\0"))
        .unwrap();
    node.status
        .set_value(b"rrd/x", &Bytes::from_static(b"1\0"))
        .unwrap();
    let keys = [("k".into(), "v\0".into())];
    assert_eq!(node.status.own_values(), keys);
    assert_eq!(node.status.own_address(), "10.0.0.1\0");
    assert_eq!(members(&node.status)["nodelist"]["a"]["ip"], "10.0.0.1");
    assert_eq!(members(&node.status)["version"], version + 1);
    assert_eq!(node.status.own_address(), "10.0.0.1\0");
    assert_eq!(members(&node.status)["version"], version + 1);
    node.status
        .set_value(b"nodeip", &Bytes::from_static(b"10.0.0.7\0"))
        .unwrap();
    assert_eq!(node.status.own_address(), "10.0.0.7\0");
    assert_eq!(node.status.own_values(), keys);
}

#[test]
fn keys_that_a_member_does_not_repeat_after_an_exchange_are_gone() {
    let node = with_nodes(&["a", "b"]);
    for key in ["gone", "stays"] {
        node.status
            .apply_value(PEER, key.as_bytes(), b"v\0")
            .unwrap();
    }
    let own = node.status.state();
    assert_eq!(node.status.merge_states(&[Some(&own), Some(&own)], 0), []);
    node.status.apply_value(PEER, b"stays", b"v\0").unwrap();
    assert!(
        node.status.value(b"b", b"gone").is_ok(),
        "not before the member is done"
    );
    node.status
        .apply_value(PEER, b"nodeip", b"10.0.0.2\0")
        .unwrap();
    assert_eq!(node.status.value(b"b", b"gone"), Err(FsError::NotFound));
    assert!(node.status.value(b"b", b"stays").is_ok());
    assert_eq!(
        versions(&node.status)["kvstore"]["b"]
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn quorum_and_the_loss_of_corosync_show_at_once() {
    let node = with_nodes(&["a", "b"]);
    let quorate = |node: &Node| members(&node.status)["cluster"]["quorate"].clone();
    assert_eq!(quorate(&node), 0);
    assert!(node.status.set_quorate(true));
    assert!(!node.status.set_quorate(true));
    assert_eq!(quorate(&node), 1);
    node.status.set_online([NodeId(1), NodeId(2)]);
    assert_eq!(members(&node.status)["nodelist"]["b"]["online"], 1);
    assert!(node.status.lose_cluster());
    let shown = members(&node.status);
    assert_eq!(shown["cluster"]["quorate"], 0);
    assert_eq!(
        (
            &shown["nodelist"]["a"]["online"],
            &shown["nodelist"]["b"]["online"]
        ),
        (&1.into(), &0.into())
    );
    assert_eq!(
        versions(&node.status)["clinfo"],
        shown["version"],
        "clients that poll the counter see it"
    );
}

#[test]
fn an_empty_node_list_is_none() {
    let node = with_nodes(&[]);
    assert_eq!(
        node.status.members_document(),
        "{\n\"nodename\": \"a\",\n\"version\": 1\n}\n"
    );
}

#[test]
fn documents_are_shared_until_something_changes() {
    let node = with_nodes(&["a", "b"]);
    let tree = Tree::new(RootState::default(), Rules::Local);
    let documents = |node: &Node| {
        [
            node.status.version_document(&tree),
            node.status.members_document(),
            node.status.guest_list_document(tree.guests()),
            node.status.log_document(),
            node.status.log_response(0, b""),
            node.status.rrd_response(),
        ]
    };
    for (first, again) in documents(&node).iter().zip(documents(&node)) {
        assert_eq!(first.as_ptr(), again.as_ptr());
    }
}

#[test]
fn samples_expire_without_readers() {
    let node = node();
    node.status
        .set_value(b"rrd/x", &Bytes::from_static(b"1\0"))
        .unwrap();
    node.clock.advance(301);
    node.status.expire_samples();
    assert_eq!(node.status.rrd_document(), "");
}

#[test]
fn entries_of_peers_are_added_once() {
    let node = with_nodes(&["a", "b"]);
    let entry = Submission {
        priority: 6,
        pid: 1,
        ident: b"root",
        tag: b"t",
        message: b"m",
    };
    let entry = entry.pack(9, 1005, b"b").unwrap();
    let origin = Origin { node: PEER, pid: 7 };
    assert!(node.status.receive_log(&entry, origin));
    assert!(!node.status.receive_log(&entry, origin));
    let log: Value = serde_json::from_slice(&node.status.log_document()).unwrap();
    assert_eq!(log["data"].as_array().unwrap().len(), 2);
    assert_eq!(log["data"][0]["msg"], "m");
}

#[test]
fn an_entry_of_the_start_that_collides_with_an_earlier_one_is_sent_with_a_new_number() {
    let node = with_nodes(&["a", "b"]);
    let of_earlier_life = Submission {
        priority: 6,
        pid: 7,
        ident: b"root",
        tag: b"cluster",
        message: b"earlier",
    };
    let mut ring = pmxcfs_logger::Ring::new();
    ring.append(&of_earlier_life.pack(1, 1000, b"a").unwrap().view());
    let state = ring.to_state();
    assert_eq!(node.status.merge_states(&[None, Some(&state)], 0), []);
    assert_eq!(*node.peers.0.lock(), ["log 2 earlier"]);
    let log: Value = serde_json::from_slice(&node.status.log_document()).unwrap();
    let ids = [log["data"][0]["uid"].clone(), log["data"][1]["uid"].clone()];
    assert_eq!(ids, [2, 1]);
}

/// Readers poll while others change: a change that is done is in the next document, and versions never go back.
#[test]
fn documents_never_lag_behind_changes_that_are_done() {
    let node = with_nodes(&["a", "b"]);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let version = versions(&node.status)["kvstore"]["a"]["k"]
                        .as_u64()
                        .unwrap_or(0);
                    assert!(version >= last);
                    last = version;
                }
            });
        }
        for expected in 0..300u32 {
            node.status
                .set_value(b"k", &Bytes::from_static(b"v"))
                .unwrap();
            assert_eq!(versions(&node.status)["kvstore"]["a"]["k"], expected);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

proptest! {
    /// Any names and values leave the documents valid JSON in which they can be found.
    #[test]
    fn documents_are_json_whatever_they_hold(name in "\\PC{1,20}|[\\x01-\\x7f]{1,20}", key in "[\\x01-\\u{ff}]{0,20}", address in "[\\x01-\\x7f]{1,20}") {
        let node = node();
        let list = [(NodeId(1), Bytes::from("a")), (PEER, Bytes::from(name.clone()))];
        node.status.replace_node_list(Bytes::from(name.clone()), 1, list);
        let value = Bytes::from_static(b"v");
        if key != "nodeip" && !key.starts_with("rrd/") {
            node.status.apply_value(PEER, key.as_bytes(), &value).unwrap();
            node.status.set_value(key.as_bytes(), &value).unwrap();
        }
        node.status.apply_value(PEER, b"nodeip", format!("{address}\0").as_bytes()).unwrap();
        let members = members(&node.status);
        prop_assert_eq!(members["nodelist"][&name]["ip"].as_str(), Some(&*address));
        prop_assert_eq!(members["cluster"]["name"].as_str(), Some(&*name));
        if key != "nodeip" && !key.starts_with("rrd/") && name != "a" {
            prop_assert_eq!(&versions(&node.status)["kvstore"][&name][&key], &Value::from(0));
        }
    }
}
