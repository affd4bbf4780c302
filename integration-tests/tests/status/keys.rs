//! Keys and values, their versions, the node's address.

use std::fs;

use integration_tests::{Check, Host, IpcClient};
use serde_json::Value;

use crate::requests::{ask, json, set};

fn version(client: &mut IpcClient) -> Value {
    json(&client.version().unwrap())
}

#[test]
fn versions_follow_every_change() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let mut check = Check::new();
    let mut shown = |client: &mut IpcClient, row: &str, expected: Value| {
        check.equal(row, version(client)["kvstore"].clone(), expected);
    };
    shown(&mut client, "empty", serde_json::json!({"node1": {}}));
    client.set_status("b", b"1\0").unwrap();
    client.set_status("a", b"1\0").unwrap();
    shown(
        &mut client,
        "set",
        serde_json::json!({"node1": {"a": 0, "b": 0}}),
    );
    client.set_status("a", b"1\0").unwrap();
    shown(
        &mut client,
        "set to the same",
        serde_json::json!({"node1": {"a": 1, "b": 0}}),
    );
    client.set_status("a", b"").unwrap();
    client.set_status("never there", b"").unwrap();
    shown(
        &mut client,
        "removed",
        serde_json::json!({"node1": {"b": 0}}),
    );
    client.set_status("a", b"2\0").unwrap();
    shown(
        &mut client,
        "set again, with a version that no client has seen",
        serde_json::json!({"node1": {"a": 2, "b": 0}}),
    );
    drop(check);
    let text = String::from_utf8(client.version().unwrap()).unwrap();
    assert!(
        text.ends_with("\"kvstore\": {\n\"node1\": {\n\"a\": 2,\n\"b\": 0}\n}\n}\n"),
        "{text}"
    );
    daemon.stop();

    let daemon = host.start();
    let mut client = host.ipc();
    assert_eq!(
        version(&mut client)["kvstore"],
        serde_json::json!({"node1": {}}),
        "nothing of this is kept on disk"
    );
    daemon.stop();
}

#[test]
fn a_changed_address_counts_and_the_same_does_not() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let counter = |client: &mut IpcClient| {
        let members = json(&client.members().unwrap());
        let counters = (
            version(client)["clinfo"].as_u64().unwrap(),
            members["version"].as_u64().unwrap(),
        );
        assert_eq!(counters.0, counters.1);
        assert_eq!(members["nodename"], "node1");
        counters.0
    };
    let start = counter(&mut client);
    for (address, expected) in [
        ("192.0.2.7\0", 1),
        ("192.0.2.7\0", 1),
        ("2001:db8::1\0", 2),
        ("a\"b\\\x01\0", 3),
    ] {
        client.set_status("nodeip", address.as_bytes()).unwrap();
        assert_eq!(counter(&mut client) - start, expected, "{address:?}");
    }
    daemon.stop();
}

#[test]
fn keys_of_any_bytes_leave_the_document_valid() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let keys: [&[u8]; 8] = [
        b"",
        b"quo\"te",
        b"back\\slash",
        b"line\nbreak\x01\x1f\x7f",
        b"\xff\xfe",
        "\u{fc}\u{20ac}\u{1f600}".as_bytes(),
        b"},\"x\": {",
        &[0xc3; 255],
    ];
    for (count, key) in keys.iter().enumerate() {
        assert_eq!(ask(&mut client, 4, &set(key, b"v\0")), Ok(Vec::new()));
        let document = version(&mut client);
        let shown = document["kvstore"]["node1"].as_object().unwrap();
        assert_eq!(shown.len(), count + 1, "{}", key.escape_ascii());
    }
    assert_eq!(
        client.version().unwrap(),
        fs::read(host.path(".version")).unwrap()
    );
    daemon.stop();
}
