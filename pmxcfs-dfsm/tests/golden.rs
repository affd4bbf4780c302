//! Messages recorded from C daemons: every field as an independent decoder read it, and the same bytes when encoded.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

mod support;

use bytes::Bytes;
use pmxcfs_dfsm::{
    database::wire::{
        LockMessage, OperationKind, OperationMessage, UNLOCK, UNLOCK_REQUEST,
        UpdateMessage as EntryMessage,
    },
    status::wire::{LOG, UPDATE, UpdateMessage as KeyMessage},
    wire::{Epoch, Header, MessageKind, NormalMessage, StateMessage, VerifyMessage},
};
use pmxcfs_memdb::Index;
use serde_json::Value;
use sha2::Digest as _;
use support::{hex, manifest, read, unhex, vectors};

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn assert_text(recorded: &Value, decoded: Option<&Bytes>, name: &str) {
    let decoded = decoded.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(recorded.as_str(), decoded.as_deref(), "{name}");
}

/// Long data are in the manifest by their beginning, length and digest.
fn assert_data(recorded: &Value, decoded: &[u8], name: &str) {
    assert_eq!(number(&recorded["len"]), decoded.len() as u64, "{name}");
    let digits = recorded["hex"].as_str().unwrap();
    let shown = digits.trim_end_matches('.');
    assert!(hex(decoded).starts_with(shown), "{name}");
    match recorded["sha256"].as_str() {
        Some(digest) => assert_eq!(hex(&sha2::Sha256::digest(decoded)), digest, "{name}"),
        None => assert_eq!(shown.len(), decoded.len() * 2, "{name}"),
    }
}

fn assert_header(decoded: &Value, header: &Header, name: &str) {
    assert_eq!(
        number(&decoded["type"]),
        u64::from(u16::from(header.kind)),
        "{name}"
    );
    assert_eq!(
        number(&decoded["subtype"]),
        u64::from(header.subtype),
        "{name}"
    );
    assert_eq!(
        number(&decoded["protocol_version"]),
        u64::from(header.protocol),
        "{name}"
    );
    assert_eq!(
        number(&decoded["time"]),
        u64::from(header.time_secs),
        "{name}"
    );
    assert_eq!(
        number(&decoded["reserved"]),
        u64::from(header.reserved),
        "{name}"
    );
}

fn assert_epoch(decoded: &Value, epoch: Epoch, name: &str) {
    let fields = [
        ("epoch", epoch.number),
        ("time", epoch.time_secs),
        ("nodeid", epoch.node),
        ("pid", epoch.pid),
    ];
    for (field, value) in fields {
        assert_eq!(number(&decoded[field]), u64::from(value), "{name} {field}");
    }
}

fn load(folder: &str, entry: &Value) -> (String, Bytes) {
    let name = entry["file"].as_str().unwrap().to_owned();
    let message = Bytes::from(read(&vectors().join(folder).join(&name)));
    assert_eq!(number(&entry["length"]), message.len() as u64, "{name}");
    (name, message)
}

/// The payload encoded again.
fn check_operation(decoded: &Value, message: &NormalMessage, name: &str) -> Bytes {
    let subtype = message.header.subtype;
    if matches!(subtype, UNLOCK_REQUEST | UNLOCK) {
        let lock = LockMessage::decode(&message.payload).unwrap();
        assert_eq!(
            decoded["csum"].as_str(),
            Some(&*hex(&lock.checksum)),
            "{name}"
        );
        assert_text(&decoded["path"], Some(&lock.path), name);
        return lock.encode();
    }
    let kind = OperationKind::try_from(subtype).unwrap();
    let operation = OperationMessage::decode(kind, &message.payload).unwrap();
    assert_eq!(
        number(&decoded["offset"]),
        u64::from(operation.offset),
        "{name}"
    );
    assert_eq!(
        number(&decoded["flags"]),
        u64::from(operation.flags),
        "{name}"
    );
    assert_text(&decoded["path"], operation.path.as_ref(), name);
    assert_text(&decoded["to"], operation.target.as_ref(), name);
    assert_data(&decoded["data"], &operation.data, name);
    let made = OperationMessage::new(&operation.operation().unwrap()).unwrap();
    assert_eq!(
        made, operation,
        "{name}: made from the operation it stands for"
    );
    operation.encode()
}

fn check_state_payload(decoded: &Value, message: &StateMessage, name: &str) -> Bytes {
    match message.header.kind {
        MessageKind::State => {
            let index = Index::decode(&message.payload).unwrap();
            let recorded = &decoded["index"];
            assert_eq!(number(&recorded["version"]), index.root().version, "{name}");
            let last_inode = index.entries().last().map_or(0, |entry| entry.inode);
            assert_eq!(number(&recorded["last_inode"]), last_inode, "{name}");
            let entries = recorded["entries"].as_array().unwrap();
            assert_eq!(entries.len(), index.entries().len(), "{name}");
            for (recorded, entry) in entries.iter().zip(index.entries()) {
                assert_eq!(number(&recorded["inode"]), entry.inode, "{name}");
                assert_eq!(
                    recorded["digest"].as_str(),
                    Some(&*hex(&entry.digest)),
                    "{name}"
                );
            }
            let made = Index::new(index.root(), index.entries());
            made.bytes().clone()
        }
        MessageKind::Update => {
            let update = EntryMessage::decode(&message.payload).unwrap();
            let (recorded, entry) = (&decoded["inode"], &update.entry);
            let fields = [
                ("parent", entry.parent),
                ("inode", entry.inode),
                ("version", entry.version),
                ("writer", u64::from(entry.writer)),
                ("mtime", u64::from(entry.mtime)),
                ("size", u64::from(entry.size)),
                ("namelen", entry.name.len() as u64 + 1),
                ("type", entry.kind as u64),
            ];
            for (field, value) in fields {
                assert_eq!(number(&recorded[field]), value, "{name} {field}");
            }
            assert_text(&recorded["name"], Some(&entry.name), name);
            assert_data(&recorded["data"], &entry.data, name);
            update.encode()
        }
        MessageKind::VerifyRequest => {
            let request = VerifyMessage::decode_request(&message.payload).unwrap();
            assert_eq!(number(&decoded["csum_id"]), request.id, "{name}");
            request.encode()
        }
        MessageKind::Verify => {
            let verify = VerifyMessage::decode_checksum(&message.payload).unwrap();
            assert_eq!(number(&decoded["csum_id"]), verify.id, "{name}");
            let checksum = hex(&verify.checksum.unwrap());
            assert_eq!(decoded["checksum"].as_str(), Some(&*checksum), "{name}");
            verify.encode()
        }
        _ => {
            assert!(message.payload.is_empty(), "{name}");
            Bytes::new()
        }
    }
}

#[test]
fn database_messages_decode_as_recorded_and_encode_to_the_same_bytes() {
    for entry in manifest("dcdb/manifest.json") {
        let (name, bytes) = load("dcdb", &entry);
        let decoded = &entry["decoded"];
        assert_header(decoded, &Header::decode(&bytes).unwrap(), &name);
        let encoded = if number(&decoded["type"]) == 0 {
            let message = NormalMessage::decode(&bytes).unwrap();
            assert_eq!(number(&decoded["count"]), message.count, "{name}");
            let payload = check_operation(decoded, &message, &name);
            let Header {
                subtype, time_secs, ..
            } = message.header;
            NormalMessage::new(1, subtype, time_secs, message.count, payload).encode()
        } else {
            let message = StateMessage::decode(&bytes).unwrap();
            assert_epoch(&decoded["epoch"], message.epoch, &name);
            let payload = check_state_payload(decoded, &message, &name);
            let Header {
                kind, time_secs, ..
            } = message.header;
            StateMessage::new(kind, 1, time_secs, message.epoch, payload).encode()
        };
        assert_eq!(encoded, bytes, "{name}");
    }
}

#[test]
fn status_messages_decode_as_recorded_and_encode_to_the_same_bytes() {
    for entry in manifest("status/manifest.json") {
        let (name, bytes) = load("status", &entry);
        let decoded = &entry["decoded"];
        assert_header(decoded, &Header::decode(&bytes).unwrap(), &name);
        if number(&decoded["type"]) != 0 {
            let message = StateMessage::decode(&bytes).unwrap();
            assert_epoch(&decoded["epoch"], message.epoch, &name);
            assert_eq!(
                number(&decoded["payload_len"]),
                message.payload.len() as u64
            );
            assert_eq!(message.encode(), bytes, "{name}");
            continue;
        }
        let message = NormalMessage::decode(&bytes).unwrap();
        assert_eq!(number(&decoded["count"]), message.count, "{name}");
        match message.header.subtype {
            UPDATE => {
                let update = KeyMessage::decode(&message.payload).unwrap();
                assert_text(&decoded["key"], Some(&update.key), &name);
                assert_data(&decoded["data"], &update.value, &name);
                // Behind the key's NUL, C senders leave what was in their memory.
                let rest = unhex(decoded["key_rest_hex"].as_str().unwrap());
                let place = 24 + update.key.len() + 1;
                let (rest_sent, zeros) = bytes[place..280].split_at(rest.len());
                assert_eq!(rest_sent, rest, "{name}");
                assert!(zeros.iter().all(|byte| *byte == 0), "{name}");
                let mut cleaned = bytes.to_vec();
                cleaned[place..280].fill(0);
                let payload = update.encode();
                let encoded =
                    NormalMessage::new(0, UPDATE, message.header.time_secs, message.count, payload);
                assert_eq!(encoded.encode(), cleaned, "{name}");
            }
            subtype => {
                assert_eq!(subtype, LOG, "{name}");
                assert_eq!(message.encode(), bytes, "{name}");
            }
        }
    }
}
