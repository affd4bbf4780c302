//! Requests to a C daemon and its answers, in order, on one state.
//!
//! Every recorded row must be answered as recorded, apart from the defects that [`mended`] names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::daemon::Daemon;
use bytes::Bytes;
use pmxcfs_api_types::path::is_private;
use pmxcfs_ipc::{Access, Answer};
use serde_json::Value;

const PERMISSION: i32 = 1;

fn recording() -> Value {
    let directory = std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let path = directory.join("status/ipc-ops.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    value
        .as_str()
        .unwrap()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The files that the recording's requests ran against. Its notes leave out the contents of the private files.
fn recorded_daemon(recording: &Value) -> Daemon {
    let configs: Vec<(String, Vec<u8>)> = recording["guest_configs"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(vmid, config)| {
            let path = format!("nodes/node1/qemu-server/{vmid}.conf");
            (path, unhex(&config["content_hex"]))
        })
        .collect();
    let tokens = unhex(&recording["token_cfg_hex"]);
    let others = [
        (
            "user.cfg",
            recording["user_cfg"].as_str().unwrap().as_bytes(),
        ),
        ("empty.cfg", b""),
        ("priv/shadow.cfg", b"s\n"),
        ("nodes/node1/priv/k", b"s2\n"),
        ("priv/token.cfg", &tokens),
    ];
    let configs = configs
        .iter()
        .map(|(path, content)| (path.clone(), &content[..]));
    let others = others.map(|(path, content)| (path.to_owned(), content));
    Daemon::new(configs.chain(others))
}

/// Guests come in the order of a hash table from the C daemon, in numeric order from us.
fn guest_lines(body: &[u8]) -> BTreeSet<Vec<u8>> {
    body.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b",").unwrap_or(line).to_vec())
        .collect()
}

fn path_in(body: &[u8]) -> &[u8] {
    body.split(|byte| *byte == 0).next().unwrap()
}

/// What is answered instead of what the C daemon answers, and why; `None` where the two agree.
fn mended(
    id: i32,
    access: Access,
    body: &[u8],
    recorded: &Answer,
) -> Option<(&'static str, Answer)> {
    let path = path_in(body);
    if id == 6 && access == Access::ReadOnly && is_private(path) && *recorded != Err(PERMISSION) {
        return Some((
            "a doubled slash let www-data read private files",
            Err(PERMISSION),
        ));
    }
    let is_control = |byte: &u8| *byte < b' ' && *byte != b'\n';
    if matches!(id, 11 | 13) && recorded.iter().flatten().any(is_control) {
        let mut escaped = Vec::new();
        for byte in recorded.iter().flatten() {
            match is_control(byte) {
                true => escaped.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                false => escaped.push(*byte),
            }
        }
        return Some(("raw control bytes are not JSON", Ok(Bytes::from(escaped))));
    }
    None
}

#[test]
fn every_recorded_request_is_answered_as_recorded() {
    let recording = recording();
    let daemon = recorded_daemon(&recording);
    let rows = recording["vectors"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let name = &row["desc"];
        let id = i32::try_from(row["op"].as_i64().unwrap()).unwrap();
        let body = unhex(&row["request_payload_hex"]);
        let is_reader = row["read_only"].as_bool().unwrap();
        let (access, other_access) = match is_reader {
            true => (Access::ReadOnly, Access::ReadWrite),
            false => (Access::ReadWrite, Access::ReadOnly),
        };
        let recorded = match i32::try_from(-row["error"].as_i64().unwrap()).unwrap() {
            0 => Ok(Bytes::from(unhex(&row["response_data_hex"]))),
            errno => Err(errno),
        };
        let expected = match mended(id, access, &body, &recorded) {
            Some((reason, expected)) => {
                println!("{name}: differs, {reason}");
                expected
            }
            None => recorded,
        };
        let response = daemon.call(access, id, &body);
        if matches!(id, 11 | 13) {
            let lines = |answer: &Answer| {
                answer
                    .as_ref()
                    .map(|body| guest_lines(body))
                    .map_err(|errno| *errno)
            };
            assert_eq!(lines(&response), lines(&expected), "{name}");
            let size = |answer: &Answer| answer.as_ref().map_or(0, Bytes::len);
            assert_eq!(size(&response), size(&expected), "{name}");
        } else {
            assert_eq!(response, expected, "{name}");
        }

        let changes_state = matches!(id, 4 | 7);
        if changes_state && is_reader {
            continue;
        }
        let other = daemon.call(other_access, id, &body);
        let is_private = id == 6 && is_private(path_in(&body));
        match is_reader {
            false if changes_state || is_private => {
                assert_eq!(other, Err(PERMISSION), "{name}, reader");
            }
            true if is_private => assert_ne!(other, Err(PERMISSION), "{name}, root"),
            _ => assert_eq!(other, response, "{name}, other kind of connection"),
        }
    }
}
