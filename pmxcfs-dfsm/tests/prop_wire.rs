//! Decoders under arbitrary, cut and bent bytes.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

mod support;

use bytes::Bytes;
use pmxcfs_dfsm::{
    database::wire::{LockMessage, OperationKind, OperationMessage, UpdateMessage as EntryMessage},
    status::wire::UpdateMessage as KeyMessage,
    wire::{DecodeError, Header, MessageKind, NormalMessage, StateMessage, VerifyMessage},
};
use pmxcfs_memdb::{Entry, EntryKind};
use proptest::prelude::*;
use support::{manifest, read, vectors};

const KINDS: [OperationKind; 6] = [
    OperationKind::Write,
    OperationKind::Mkdir,
    OperationKind::Delete,
    OperationKind::Rename,
    OperationKind::Create,
    OperationKind::Mtime,
];

/// Everything that reads bytes of peers.
fn decode_all(bytes: &Bytes) {
    run(Header::decode(bytes));
    run(NormalMessage::decode(bytes));
    run(StateMessage::decode(bytes));
    run(VerifyMessage::decode_request(bytes));
    run(VerifyMessage::decode_checksum(bytes));
    run(LockMessage::decode(bytes));
    run(EntryMessage::decode(bytes));
    run(KeyMessage::decode(bytes));
    for kind in KINDS {
        if let Ok(message) = OperationMessage::decode(kind, bytes) {
            run(message.operation());
        }
    }
}

fn run<T>(_result: T) {}

#[test]
fn recorded_messages_cut_at_every_length_are_refused_or_still_consistent() {
    for entry in manifest("dcdb/manifest.json") {
        let name = entry["file"].as_str().unwrap();
        let bytes = Bytes::from(read(&vectors().join("dcdb").join(name)));
        for length in 0..bytes.len() {
            decode_all(&bytes.slice(..length));
            if length < 24 {
                assert!(NormalMessage::decode(&bytes.slice(..length)).is_err());
                continue;
            }
            let payload = bytes.slice(24..length);
            let subtype = Header::decode(&bytes).unwrap().subtype;
            if let Ok(kind) = OperationKind::try_from(subtype) {
                let result = OperationMessage::decode(kind, &payload);
                assert!(result.is_err(), "{name} cut to {length} bytes");
            }
        }
    }
}

#[test]
fn every_length_field_is_checked_against_the_whole() {
    let operation = OperationMessage {
        kind: OperationKind::Rename,
        offset: 0,
        flags: 0,
        path: Some(Bytes::from_static(b"a/b")),
        target: Some(Bytes::from_static(b"c")),
        data: Bytes::from_static(b"xyz"),
    };
    let entry = EntryMessage {
        entry: Entry {
            inode: 7,
            parent: 0,
            version: 9,
            writer: 1,
            mtime: 2,
            size: 3,
            kind: EntryKind::File,
            name: Bytes::from_static(b"name"),
            data: Bytes::from_static(b"xyz"),
        },
    };
    let (operation, entry) = (operation.encode(), entry.encode());
    let bend = |bytes: &Bytes, place: usize, value: u32| {
        let mut bent = bytes.to_vec();
        bent[place..place + 4].copy_from_slice(&value.to_le_bytes());
        Bytes::from(bent)
    };
    let values = |bytes: &Bytes, place: usize| {
        let field = bytes[place..place + 4].try_into().unwrap();
        let right = u32::from_le_bytes(field);
        [0, u32::MAX, right - 1, right + 1, right.wrapping_sub(0x10)]
    };
    for place in [0, 8, 12] {
        for value in values(&operation, place) {
            let bent = bend(&operation, place, value);
            let result = OperationMessage::decode(OperationKind::Rename, &bent);
            assert!(result.is_err(), "operation: {value} at {place}");
        }
    }
    for place in [32, 36] {
        for value in values(&entry, place) {
            let result = EntryMessage::decode(&bend(&entry, place, value));
            assert!(result.is_err(), "entry: {value} at {place}");
        }
    }
}

/// What the decoders say to each message that is known to harm C daemons.
#[test]
fn malformed_messages_are_told_apart() {
    let table = [
        ("short-header.bin", "frame"),
        ("normal-too-short.bin", "frame"),
        ("unknown-subtype-9.bin", "subtype"),
        ("subtype-0.bin", "subtype"),
        ("older-protocol.bin", "version"),
        ("length-mismatch.bin", "payload"),
        ("path-length-zero-create.bin", "no path"),
        ("rename-without-target.bin", "no target"),
        ("write-lengths-overflow.bin", "payload"),
        ("unlock-short.bin", "payload"),
        ("update-name-length-zero.bin", "payload"),
        ("update-40-bytes.bin", "payload"),
        ("state-empty.bin", "payload"),
        ("state-short-index.bin", "payload"),
        ("verify-wrong-length.bin", "payload"),
        ("state-type-7.bin", "kind"),
        ("kv-key-not-terminated.bin", "payload"),
        ("kv-unknown-subtype-2.bin", "subtype"),
        ("log-length-overflow.bin", "passed on"),
        ("log-unterminated.bin", "passed on"),
        ("kv-update-inode.bin", "kind"),
    ];
    for entry in manifest("dcdb/malformed/manifest.json") {
        let name = entry["file"].as_str().unwrap();
        let bytes = Bytes::from(read(&vectors().join("dcdb/malformed").join(name)));
        let is_database = entry["group"] == "pve_dcdb_v1";
        decode_all(&bytes);
        let verdict = verdict(&bytes, is_database);
        if let Some((_, expected)) = table.iter().find(|(file, _)| *file == name) {
            assert_eq!(verdict, *expected, "{name}");
        } else {
            assert_ne!(verdict, "good", "{name}");
        }
    }
}

fn verdict(bytes: &Bytes, is_database: bool) -> &'static str {
    let Ok(header) = Header::decode(bytes) else {
        return "frame";
    };
    if header.protocol != u32::from(is_database) {
        return "version";
    }
    if header.kind != MessageKind::Normal {
        return match StateMessage::decode(bytes) {
            Ok(message) => state_verdict(&message, is_database),
            Err(_) => "frame",
        };
    }
    let Ok(message) = NormalMessage::decode(bytes) else {
        return "frame";
    };
    let result: Result<(), DecodeError> = match (is_database, header.subtype) {
        (true, 7 | 8) => LockMessage::decode(&message.payload).map(drop),
        (true, subtype) => {
            let Ok(kind) = OperationKind::try_from(subtype) else {
                return "subtype";
            };
            match OperationMessage::decode(kind, &message.payload) {
                Ok(message) if message.operation().is_ok() => Ok(()),
                Ok(message) if message.path.is_none() => return "no path",
                Ok(_) => return "no target",
                Err(error) => Err(error),
            }
        }
        (false, 1) => KeyMessage::decode(&message.payload).map(drop),
        (false, 3) => return "passed on",
        (false, _) => return "subtype",
    };
    if result.is_ok() { "good" } else { "payload" }
}

fn state_verdict(message: &StateMessage, is_database: bool) -> &'static str {
    let is_good = match message.header.kind {
        _ if !is_database => return "kind",
        MessageKind::State => pmxcfs_memdb::Index::decode(&message.payload).is_ok(),
        MessageKind::Update => EntryMessage::decode(&message.payload).is_ok(),
        MessageKind::VerifyRequest => VerifyMessage::decode_request(&message.payload).is_ok(),
        MessageKind::Verify => VerifyMessage::decode_checksum(&message.payload).is_ok(),
        _ => return "kind",
    };
    if is_good { "good" } else { "payload" }
}

fn path() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(1u8.., 0..40).prop_map(Bytes::from)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&Bytes::from(bytes));
    }

    #[test]
    fn operations_survive_encoding(
        kind in prop::sample::select(&KINDS[..]),
        offset: u32,
        flags: u32,
        path in prop::option::of(path()),
        target in prop::option::of(path()),
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let data = Bytes::from(data);
        let message = OperationMessage { kind, offset, flags, path, target, data };
        prop_assert_eq!(OperationMessage::decode(kind, &message.encode()), Ok(message));
    }

    #[test]
    fn entries_survive_encoding(
        inode: u64, parent: u64, version: u64, writer: u32, mtime: u32,
        name in path(), data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let size = data.len() as u32;
        let kind = if data.is_empty() { EntryKind::Directory } else { EntryKind::File };
        let data = Bytes::from(data);
        let entry = Entry { inode, parent, version, writer, mtime, size, kind, name, data };
        let message = EntryMessage { entry };
        prop_assert_eq!(EntryMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn keys_survive_encoding(key in path(), value in prop::collection::vec(any::<u8>(), 0..50)) {
        let message = KeyMessage { key, value: Bytes::from(value) };
        prop_assert_eq!(KeyMessage::decode(&message.encode()), Ok(message));
    }
}
