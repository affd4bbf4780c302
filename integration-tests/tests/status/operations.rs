//! Every operation with sound and malformed requests, as root and as the web server.

use std::fs;

use integration_tests::identity::Identity;
use integration_tests::{Check, Host};
use nix::errno::Errno;

use crate::requests::{ask, cluster_log, field, json, log, properties, property, refusal, set};

fn fill(host: &Host) {
    for directory in ["priv", "nodes/node1/qemu-server"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    fs::write(host.path("user.cfg"), "hello\n").unwrap();
    fs::write(host.path("priv/token.cfg"), "u@pve!t 1234\nu@pve!last 5678").unwrap();
    fs::write(
        host.path("nodes/node1/qemu-server/100.conf"),
        "name: web\nlock: backup\n",
    )
    .unwrap();
    fs::write(host.path("nodes/node1/qemu-server/101.conf"), "").unwrap();
}

/// Requests that are refused whoever sends them, unless sending them at all is.
fn malformed() -> Vec<(&'static str, i32, Vec<u8>, Errno)> {
    let vmid = |id: u32| id.to_le_bytes().to_vec();
    let raw = |id: u32, rest: &[u8]| [&id.to_le_bytes()[..], rest].concat();
    let invalid = Errno::EINVAL;
    vec![
        ("version with a body", 1, vec![0], invalid),
        ("members with a body", 2, vec![0; 40], invalid),
        ("guest list with a body", 3, vec![0], invalid),
        ("rrd dump with a body", 10, vec![0], invalid),
        ("get status, short", 5, vec![b'a'; 511], invalid),
        (
            "get status of a node that is not there",
            5,
            [field(b"k"), field(b"nowhere")].concat(),
            Errno::ENOENT,
        ),
        (
            "get a key that is not there",
            5,
            [field(b"missing"), field(b"")].concat(),
            Errno::ENOENT,
        ),
        (
            "get the address",
            5,
            [field(b"nodeip"), field(b"")].concat(),
            Errno::ENOENT,
        ),
        (
            "get an rrd value",
            5,
            [field(b"rrd/pve-node-9.0/n"), field(b"")].concat(),
            Errno::ENOENT,
        ),
        ("config without a path", 6, vec![], invalid),
        ("config of the root", 6, b"/\0".to_vec(), Errno::ENOENT),
        (
            "config of a plugin",
            6,
            b".version\0".to_vec(),
            Errno::ENOENT,
        ),
        (
            "config, last byte is not a NUL and lost",
            6,
            b"user.cfg".to_vec(),
            Errno::ENOENT,
        ),
        ("cluster log without a user", 8, vec![0; 16], invalid),
        ("cluster log, nothing", 8, vec![], invalid),
        ("property, nothing", 11, vec![], invalid),
        ("property of guest 1 without a name", 11, vmid(1), invalid),
        ("property of guest 99", 11, property(99, b"lock"), invalid),
        (
            "property of a missing guest, no name",
            11,
            vmid(555),
            Errno::ENOENT,
        ),
        ("property of a guest, no name", 11, vmid(100), invalid),
        ("property of all guests, no name", 11, vmid(0), invalid),
        (
            "property in an empty config",
            11,
            property(101, b"lock"),
            Errno::EIO,
        ),
        (
            "properties of guest 99",
            13,
            properties(99, &[b"lock"]),
            invalid,
        ),
        (
            "properties of a missing guest, malformed",
            13,
            raw(555, &[0]),
            Errno::ENOENT,
        ),
        (
            "properties in an empty config",
            13,
            properties(101, &[b"lock"]),
            Errno::EIO,
        ),
        ("properties, none", 13, raw(100, &[0]), invalid),
        ("properties, count only", 13, raw(100, &[1]), invalid),
        (
            "properties, count and one byte",
            13,
            raw(100, &[1, 0]),
            invalid,
        ),
        ("properties, no NUL", 13, raw(100, b"\x01lock"), invalid),
        (
            "properties, fewer than counted",
            13,
            raw(100, b"\x02lock\0"),
            invalid,
        ),
        (
            "properties, more than counted",
            13,
            raw(100, b"\x01lock\0name\0"),
            invalid,
        ),
        (
            "properties, an empty name",
            13,
            raw(100, b"\x02lock\0\0"),
            invalid,
        ),
        (
            "properties, a capital",
            13,
            properties(100, &[b"Lock"]),
            invalid,
        ),
        (
            "properties, a digit",
            13,
            properties(0, &[b"0lock"]),
            invalid,
        ),
        ("token, nothing", 12, vec![], invalid),
        ("token, empty", 12, vec![0], invalid),
        ("token without a NUL", 12, b"u@pve!t 1234".to_vec(), invalid),
        (
            "token with a NUL inside",
            12,
            b"u@pve!t\x001234\0".to_vec(),
            invalid,
        ),
        (
            "token over two lines",
            12,
            b"u@pve!t 1234\nu@pve!last 5678\0".to_vec(),
            invalid,
        ),
        (
            "token, a part of a line",
            12,
            b"u@pve!t 123\0".to_vec(),
            Errno::ENOENT,
        ),
        (
            "token, more than a line",
            12,
            b"u@pve!t 12345\0".to_vec(),
            Errno::ENOENT,
        ),
        (
            "token, larger than the file",
            12,
            [&[b'x'; 9000][..], b"\0"].concat(),
            Errno::ENOENT,
        ),
        ("operation 9", 9, vec![], Errno::ECHRNG),
        ("operation 0", 0, vec![], Errno::ECHRNG),
        ("operation 14", 14, vec![0; 3], Errno::ECHRNG),
    ]
}

/// Requests that only root may send.
fn malformed_changes() -> Vec<(&'static str, i32, Vec<u8>, Errno)> {
    let invalid = Errno::EINVAL;
    vec![
        ("set status, short", 4, vec![b'a'; 255], invalid),
        ("set status, nothing", 4, vec![], invalid),
        (
            "set status, too large",
            4,
            set(b"k", &[1; 32_769]),
            Errno::EFBIG,
        ),
        (
            "rrd, too large for anything",
            4,
            set(b"rrd/k", &[0; 32_769]),
            Errno::EFBIG,
        ),
        ("rrd without a NUL", 4, set(b"rrd/k", b"1:2"), Errno::ENOMEM),
        ("rrd, empty", 4, set(b"rrd/k", b""), Errno::ENOMEM),
        (
            "rrd, too large",
            4,
            set(b"rrd/k", &[0; 4096]),
            Errno::ENOMEM,
        ),
        (
            "address without a NUL",
            4,
            set(b"nodeip", b"10.0.0.1"),
            Errno::ENOMEM,
        ),
        ("address, empty", 4, set(b"nodeip", b""), Errno::ENOMEM),
        (
            "address, too large",
            4,
            set(b"nodeip", &[0; 256]),
            Errno::ENOMEM,
        ),
        ("log, nothing", 7, vec![], invalid),
        ("log, two bytes", 7, vec![6, 1], invalid),
        (
            "log, no message",
            7,
            b"\x06\x02\x02a\0b\0".to_vec(),
            invalid,
        ),
        (
            "log, lengths beyond the end",
            7,
            b"\x06\xff\xffa\0b\0c\0".to_vec(),
            invalid,
        ),
        (
            "log, ident without a NUL",
            7,
            b"\x06\x02\x02aab\0c\0".to_vec(),
            invalid,
        ),
        (
            "log, tag without a NUL",
            7,
            b"\x06\x02\x02a\0bbc\0".to_vec(),
            invalid,
        ),
        ("log, no ident", 7, b"\x06\x00\x02b\0c\0".to_vec(), invalid),
        ("log, no tag", 7, b"\x06\x02\x00a\0c\0".to_vec(), invalid),
    ]
}

#[test]
fn malformed_requests_of_root() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    let mut client = host.ipc();
    let before = (client.version(), client.cluster_log(0, ""));
    {
        let mut check = Check::new();
        for (row, operation, body, errno) in malformed().into_iter().chain(malformed_changes()) {
            check.equal(row, ask(&mut client, operation, &body), refusal(errno));
        }
        let after = (client.version(), client.cluster_log(0, ""));
        check.holds("nothing was changed", after == before);
    }
    daemon.stop();
}

#[test]
fn requests_of_the_web_server() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    host.ipc().set_status("key", b"value\0").unwrap();
    Identity::www_data().run(|| {
        let mut client = host.ipc();
        let mut check = Check::new();
        for (row, operation, body, errno) in malformed() {
            check.equal(row, ask(&mut client, operation, &body), refusal(errno));
        }
        for (row, operation, body, _errno) in malformed_changes() {
            check.equal(
                row,
                ask(&mut client, operation, &body),
                refusal(Errno::EPERM),
            );
        }
        for (row, operation, body) in [
            ("set", 4, set(b"key", b"other\0")),
            ("remove", 4, set(b"key", b"")),
            ("log", 7, log(6, b"a", b"b", b"c")),
        ] {
            check.equal(
                row,
                ask(&mut client, operation, &body),
                refusal(Errno::EPERM),
            );
        }
        check.equal("get", client.status("key", ""), Ok(b"value\0".to_vec()));
        check.equal("token", client.verify_token("u@pve!last 5678"), Ok(()));
        let lock = b"{\n\"100\":{\"lock\": \"backup\"}\n}\n".to_vec();
        check.equal(
            "lock",
            ask(&mut client, 11, &property(100, b"lock")),
            Ok(lock),
        );
        for operation in [1, 2, 3, 10] {
            let row = format!("operation {operation}");
            check.holds(&row, ask(&mut client, operation, &[]).is_ok());
        }
        check.holds("log", ask(&mut client, 8, &cluster_log(0, b"")).is_ok());
    });
    daemon.stop();
}

#[test]
fn unusual_requests_that_are_sound() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    let mut client = host.ipc();
    {
        let mut check = Check::new();
        let mut answer = |operation: i32, body: &[u8]| ask(&mut client, operation, body);
        let empty = || Ok(Vec::new());
        check.equal(
            "a key of 256 bytes",
            answer(4, &set(&[b'k'; 256], b"v\0")),
            empty(),
        );
        let own = [field(&[b'k'; 255]), field(b"node1")].concat();
        check.equal("is one of 255", answer(5, &own), Ok(b"v\0".to_vec()));
        let longer = [own, vec![b'x'; 77]].concat();
        check.equal(
            "asked for in a long request",
            answer(5, &longer),
            Ok(b"v\0".to_vec()),
        );
        check.equal(
            "the largest value",
            answer(4, &set(b"large", &[7; 32_768])),
            empty(),
        );
        let large = answer(5, &[field(b"large"), field(b"")].concat());
        check.equal(
            "comes back",
            large.map(|value| value == [7; 32_768]),
            Ok(true),
        );
        check.equal(
            "a value without a NUL",
            answer(4, &set(b"bare", b"v")),
            empty(),
        );
        let bare = answer(5, &[field(b"bare\0x"), field(b"\0node9")].concat());
        check.equal("names end at a NUL", bare, Ok(b"v".to_vec()));
        check.equal(
            "largest address",
            answer(4, &set(b"nodeip", &[b"1".repeat(254), vec![0]].concat())),
            empty(),
        );
        check.equal(
            "largest rrd value",
            answer(4, &set(b"rrd/x", &[b"1".repeat(4094), vec![0]].concat())),
            empty(),
        );
        check.equal(
            "slashes",
            answer(6, b"//user.cfg\0"),
            Ok(b"hello\n".to_vec()),
        );
        check.equal(
            "rest behind a NUL",
            answer(6, b"user.cfg\0junk\0"),
            Ok(b"hello\n".to_vec()),
        );
        check.equal(
            "any last byte",
            answer(6, b"user.cfgX"),
            Ok(b"hello\n".to_vec()),
        );
        check.equal(
            "priority above 7",
            answer(7, &log(8, b"a", b"b", b"dropped")),
            empty(),
        );
        check.equal(
            "message without a NUL",
            answer(7, b"\x06\x02\x02u\0t\0text"),
            empty(),
        );
        check.equal(
            "message of one NUL",
            answer(7, b"\x06\x02\x02u\0t\0\0"),
            empty(),
        );
        let entries = json(&answer(8, &cluster_log(2, b"u")).unwrap());
        check.equal("empty", entries["data"][0]["msg"].as_str(), Some(""));
        check.equal("whole", entries["data"][1]["msg"].as_str(), Some("text"));
        check.equal("dropped", entries["data"][2].as_str(), None);
        let all = |body: Vec<u8>, expected: &str| (body, expected.to_owned());
        for (body, expected) in [
            all(
                properties(0, &[b"lock", b"name"]),
                "{\n\"100\":{\"lock\": \"backup\",\"name\": \"web\"}\n}\n",
            ),
            all(
                properties(100, &[b"name", b"nothing", b"name"]),
                "{\n\"100\":{\"name\": \"web\",\"name\": \"web\"}\n}\n",
            ),
            all(properties(100, &[b"nothing"]), "{\n\n}\n"),
        ] {
            check.equal(
                &expected,
                answer(13, &body),
                Ok(expected.clone().into_bytes()),
            );
        }
        check.equal(
            "an empty name",
            answer(11, &property(100, b"")),
            Ok(b"{\n\n}\n".to_vec()),
        );
    }
    daemon.stop();
}

#[test]
fn no_tokens_without_their_file() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let absent = Err(integration_tests::ipc_client::IpcError::Refused(
        Errno::ENOENT,
    ));
    assert_eq!(client.verify_token("u@pve!t 1"), absent);
    fs::create_dir(host.path("priv")).unwrap();
    fs::write(host.path("priv/token.cfg"), "").unwrap();
    assert_eq!(client.verify_token("u@pve!t 1"), absent);
    fs::write(host.path("priv/token.cfg"), "u@pve!t 1\n").unwrap();
    assert_eq!(client.verify_token("u@pve!t 1"), Ok(()));
    fs::write(host.path("priv/token.cfg"), "u@pve!t 2\n").unwrap();
    assert_eq!(
        client.verify_token("u@pve!t 1"),
        absent,
        "withdrawn at once"
    );
    daemon.stop();
}
