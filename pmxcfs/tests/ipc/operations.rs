//! What clients can ask for, and what they cannot do to the daemon.

use crate::daemon::{ADMIN_GID, Daemon};
use bytes::Bytes;
use pmxcfs_ipc::{Access, Answer, Handler as _, PeerCredentials};
use serde_json::Value;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ECHRNG: i32 = 44;
const EMSGSIZE: i32 = 90;

fn daemon() -> Daemon {
    let files: [(&str, &[u8]); 8] = [
        ("user.cfg", b"hello\n"),
        ("priv/token.cfg", b"user@pve!a 1\nuser@pve!b 2"),
        ("priv/shadow.cfg", b"secret"),
        ("nodes/node1/priv/key", b"secret"),
        (
            "nodes/node1/qemu-server/100.conf",
            b"lock: backup\nname: \x01\"\\\n",
        ),
        ("nodes/node2/lxc/9.conf", b"lock: nine\n"),
        ("nodes/node2/lxc/1000.conf", b"hostname: ct\nlock: mounted"),
        ("nodes/node2/lxc/200.conf", b""),
    ];
    Daemon::new(files.map(|(path, content)| (path.to_owned(), content)))
}

fn root(daemon: &Daemon, id: i32, body: &[u8]) -> Answer {
    daemon.call(Access::ReadWrite, id, body)
}

fn reader(daemon: &Daemon, id: i32, body: &[u8]) -> Answer {
    daemon.call(Access::ReadOnly, id, body)
}

fn text(response: &Answer) -> &str {
    std::str::from_utf8(response.as_ref().unwrap()).unwrap()
}

fn json(response: &Answer) -> Value {
    serde_json::from_str(text(response)).unwrap()
}

/// A key or a node name in its field.
fn field(name: &str) -> Vec<u8> {
    let mut field = name.as_bytes().to_vec();
    field.resize(256, 0);
    field
}

fn set(daemon: &Daemon, key: &str, value: &[u8]) -> Answer {
    root(daemon, 4, &[&field(key), value].concat())
}

fn value_of(daemon: &Daemon, key: &str, node: &str) -> Answer {
    reader(daemon, 5, &[field(key), field(node)].concat())
}

fn log_request(priority: u8, ident: &[u8], tag: &[u8], message: &[u8]) -> Vec<u8> {
    let lengths = [
        priority,
        u8::try_from(ident.len()).unwrap(),
        u8::try_from(tag.len()).unwrap(),
    ];
    [&lengths, ident, tag, message].concat()
}

fn log_query(limit: u32, user: &[u8]) -> Vec<u8> {
    [&limit.to_le_bytes()[..], &[0xff; 12], user].concat()
}

#[test]
fn root_and_the_admin_group_may_connect() {
    let daemon = daemon();
    let table = [
        (0, 0, Some(Access::ReadWrite)),
        (0, ADMIN_GID, Some(Access::ReadOnly)),
        (33, ADMIN_GID, Some(Access::ReadOnly)),
        (1000, ADMIN_GID, Some(Access::ReadOnly)),
        (0, 1000, None),
        (1000, 0, None),
        (1000, 1000, None),
    ];
    for (uid, gid, expected) in table {
        let peer = PeerCredentials { pid: 1, uid, gid };
        assert_eq!(daemon.operations.authorize(&peer), expected, "{uid} {gid}");
    }
}

#[test]
fn unknown_operations_are_told() {
    let daemon = daemon();
    for id in [-1, 0, 9, 14, 1000, i32::MIN, i32::MAX] {
        assert_eq!(root(&daemon, id, b"anything"), Err(ECHRNG), "{id}");
    }
}

#[test]
fn private_files_are_for_root_however_the_path_is_written() {
    let daemon = daemon();
    for path in [
        "priv/shadow.cfg",
        "/priv/shadow.cfg",
        "//priv//shadow.cfg",
        "nodes/node1/priv/key",
        "nodes/node1//priv/key",
        "nodes//node1/priv/key",
        "/nodes/node1/priv/key",
    ] {
        let body = [path.as_bytes(), b"\0"].concat();
        assert_eq!(reader(&daemon, 6, &body), Err(EPERM), "{path}");
        assert_eq!(text(&root(&daemon, 6, &body)), "secret", "{path}");
    }
    assert_eq!(reader(&daemon, 6, b"priv\0"), Err(EPERM));
    assert_eq!(reader(&daemon, 6, b"private\0"), Err(ENOENT));
    assert_eq!(
        reader(&daemon, 6, b"user.cfg\0priv\0"),
        root(&daemon, 6, b"user.cfg\0")
    );
}

#[test]
fn values_are_set_read_and_removed() {
    let daemon = daemon();
    assert!(set(&daemon, "kv/a", b"one\0").is_ok());
    for node in ["", "node1"] {
        assert_eq!(text(&value_of(&daemon, "kv/a", node)), "one\0");
    }
    for node in ["node2", "nowhere"] {
        assert_eq!(value_of(&daemon, "kv/a", node), Err(ENOENT), "{node}");
    }
    let version = json(&root(&daemon, 1, b""));
    assert_eq!(version["kvstore"]["node1"]["kv/a"], 0);
    assert!(set(&daemon, "kv/a", b"").is_ok());
    assert_eq!(value_of(&daemon, "kv/a", ""), Err(ENOENT));
    assert_eq!(set(&daemon, "kv/a", &[b'x'; 32769]), Err(EFBIG));
    assert!(set(&daemon, "kv/a", &[b'x'; 32768]).is_ok());
    assert_eq!(
        json(&root(&daemon, 1, b""))["kvstore"]["node1"]["kv/a"],
        1,
        "a client that polls sees a change"
    );
}

#[test]
fn an_address_is_shown_and_not_a_value() {
    let daemon = daemon();
    let version = |daemon: &Daemon| json(&root(daemon, 2, b""))["version"].as_u64().unwrap();
    let before = version(&daemon);
    assert!(set(&daemon, "nodeip", b"10.0.0.1\0").is_ok());
    assert!(set(&daemon, "nodeip", b"10.0.0.1\0").is_ok());
    assert_eq!(version(&daemon), before + 1);
    assert_eq!(
        json(&root(&daemon, 2, b""))["nodelist"]["node1"]["ip"],
        "10.0.0.1"
    );
    assert_eq!(value_of(&daemon, "nodeip", ""), Err(ENOENT));
    let mut long = vec![b'1'; 254];
    long.push(0);
    assert!(set(&daemon, "nodeip", &long).is_ok());
    long.insert(0, b'1');
    for bad in [&b""[..], b"10.0.0.2", &long] {
        assert_eq!(set(&daemon, "nodeip", bad), Err(ENOMEM));
    }
}

#[test]
fn samples_are_dumped_with_a_nul_every_time() {
    let daemon = daemon();
    assert_eq!(text(&reader(&daemon, 10, b"")), "\0");
    assert!(set(&daemon, "rrd/pve2-node/node1", b"1:2\0").is_ok());
    assert_eq!(value_of(&daemon, "rrd/pve2-node/node1", ""), Err(ENOENT));
    daemon.clock.advance(2);
    for _ in 0..2 {
        assert_eq!(text(&reader(&daemon, 10, b"")), "pve2-node/node1:1:2\n\0");
    }
    assert_eq!(
        daemon.samples(),
        [("pve2-node/node1".to_owned(), b"1:2\0".to_vec())]
    );
    assert_eq!(set(&daemon, "rrd/pve2-node/node1", b"3:4"), Err(ENOMEM));
    assert_eq!(daemon.samples().len(), 1);
}

#[test]
fn log_messages_end_at_their_nul_or_with_the_request() {
    let daemon = daemon();
    let newest =
        |daemon: &Daemon| json(&reader(daemon, 8, &log_query(1, b"\0")))["data"][0].clone();
    for message in [&b"done\0"[..], b"done", b"done\0rest", b"done\0rest\0"] {
        let request = log_request(5, b"root@pam\0", b"tag\0", message);
        assert_eq!(root(&daemon, 7, &request), Ok(Bytes::new()));
        let entry = newest(&daemon);
        assert_eq!(entry["msg"], "done");
        assert_eq!(
            (&entry["user"], &entry["tag"]),
            (&"root@pam".into(), &"tag".into())
        );
        assert_eq!((&entry["pri"], &entry["pid"]), (&5.into(), &4711.into()));
    }
    let uid = newest(&daemon)["uid"].clone();
    assert!(root(&daemon, 7, &log_request(8, b"a\0", b"b\0", b"m\0")).is_ok());
    assert_eq!(newest(&daemon)["uid"], uid, "accepted and dropped");
    for bad in [
        log_request(6, b"a", b"b\0", b"m\0"),
        log_request(6, b"a\0", b"b", b"m\0"),
        log_request(6, b"", b"b\0", b"m\0"),
        log_request(6, b"a\0", b"", b"m\0"),
        log_request(6, b"a\0", b"b\0", b""),
        vec![6, 255, 255, 0, 0],
        vec![6, 2],
    ] {
        assert_eq!(root(&daemon, 7, &bad), Err(EINVAL), "{bad:?}");
    }
}

#[test]
fn the_log_is_filtered_by_user_and_limited() {
    let daemon = daemon();
    for number in 0..60 {
        let user: &[u8] = if number % 2 == 0 { b"even\0" } else { b"odd\0" };
        let _answer = root(
            &daemon,
            7,
            &log_request(6, user, b"t\0", format!("{number}").as_bytes()),
        );
    }
    let count = |query: &[u8]| {
        json(&reader(&daemon, 8, query))["data"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&log_query(0, b"\0")), 50);
    assert_eq!(count(&log_query(0, b"even\0")), 30);
    assert_eq!(count(&log_query(7, b"odd\0")), 7);
    assert_eq!(
        count(&log_query(1000, b"\0")),
        61,
        "with the entry of the start"
    );
    assert_eq!(count(&log_query(0, b"nobody\0")), 0);
    assert_eq!(reader(&daemon, 8, &log_query(0, b"")), Err(EINVAL));
}

#[test]
fn odd_texts_leave_all_documents_valid() {
    let daemon = daemon();
    for request in [
        log_request(6, b"C:\\\0", b"ta\"g\0", b"C:\\"),
        log_request(6, b"\xff\0", b"\x01\0", b"\\u12\n"),
    ] {
        let _answer = root(&daemon, 7, &request);
    }
    let _answer = set(&daemon, "a\"b\\", b"v\0");
    let _answer = set(&daemon, "nodeip", b"\"\\\0");
    assert_eq!(
        json(&root(&daemon, 8, &log_query(0, b"\0")))["data"][1]["tag"],
        "ta\"g"
    );
    assert_eq!(
        json(&root(&daemon, 1, b""))["kvstore"]["node1"]["a\"b\\"],
        0
    );
    assert_eq!(
        json(&root(&daemon, 2, b""))["nodelist"]["node1"]["ip"],
        "\"\\"
    );
    let name = root(&daemon, 13, b"\x64\0\0\0\x01name\0");
    assert_eq!(json(&name)["100"]["name"], "\x01\"\\");
}

/// Quotes, backslashes and all control characters, wherever a client, a program or a peer can put them.
#[test]
fn every_answer_in_json_satisfies_a_strict_parser() {
    let odd: Vec<u8> = (1..=0x7f)
        .filter(|byte| !matches!(byte, b'/' | b'\n'))
        .collect();
    let odd_text = String::from_utf8(odd.clone()).unwrap();
    let config = [b"name: ", &odd[..], b"\nlock: \"\\\x02\"\n"].concat();
    let daemon = Daemon::new([
        ("nodes/node1/qemu-server/100.conf".to_owned(), &config[..]),
        ("nodes/node1/lxc/101.conf".to_owned(), &config[..]),
    ]);
    let text = [&odd[..], b"\0"].concat();
    let _answer = root(&daemon, 7, &log_request(6, &text, &text, &text));
    let _answer = set(&daemon, &odd_text, b"v\0");
    let _answer = set(&daemon, "nodeip", &text);
    let queries: [(i32, &[u8]); 8] = [
        (1, b""),
        (2, b""),
        (3, b""),
        (8, &log_query(0, b"\0")),
        (8, &log_query(1000, &text)),
        (11, b"\0\0\0\0name\0"),
        (13, b"\0\0\0\0\x02name\0lock\0"),
        (13, b"\x64\0\0\0\x02name\0lock\0"),
    ];
    for (id, body) in queries {
        assert!(json(&root(&daemon, id, body)).is_object(), "{id}");
    }
    let all = json(&root(&daemon, 13, b"\0\0\0\0\x02name\0lock\0"));
    for vmid in ["100", "101"] {
        assert_eq!(all[vmid]["name"], odd_text.trim_ascii_start());
        assert_eq!(all[vmid]["lock"], "\"\\\u{2}\"");
    }
}

#[test]
fn properties_of_all_guests_come_in_numeric_order() {
    let daemon = daemon();
    assert_eq!(
        text(&reader(&daemon, 11, b"\0\0\0\0lock\0")),
        "{\n\"9\":{\"lock\": \"nine\"},\n\"100\":{\"lock\": \"backup\"},\n\"1000\":{\"lock\": \"mounted\"}\n}\n"
    );
    assert_eq!(
        text(&reader(&daemon, 13, b"\0\0\0\0\x02lock\0hostname\0")),
        "{\n\"9\":{\"lock\": \"nine\"},\n\"100\":{\"lock\": \"backup\"},\n\
         \"1000\":{\"lock\": \"mounted\",\"hostname\": \"ct\"}\n}\n"
    );
    let empty = Daemon::new([]);
    assert_eq!(text(&reader(&empty, 11, b"\0\0\0\0lock\0")), "{\n\n}\n");
    assert_eq!(
        reader(&daemon, 11, b"\xc8\0\0\0lock\0"),
        Err(EIO),
        "an empty config"
    );
    assert_eq!(
        reader(&daemon, 11, b"\x09\0\0\0lock\0"),
        Err(EINVAL),
        "ids start at 100"
    );
}

/// The answer would be 2.5 GB.
#[test]
fn an_answer_that_no_message_carries_is_refused_while_it_is_made() {
    let config = [&b"name: "[..], &[b'x'; 1000], b"\nlock: y\n"].concat();
    let path = |vmid| format!("nodes/node1/qemu-server/{vmid}.conf");
    let daemon = Daemon::new((100..10_100).map(|vmid| (path(vmid), &config[..])));
    let repeated = [&[0, 0, 0, 0, 254][..], &b"name\0".repeat(254)].concat();
    let once = b"\0\0\0\0\x01name\0";
    for query in [&repeated[..], once] {
        assert_eq!(reader(&daemon, 13, query), Err(EMSGSIZE));
    }
    let small = reader(&daemon, 13, b"\0\0\0\0\x01lock\0");
    assert_eq!(json(&small).as_object().unwrap().len(), 10_000);
}

/// A search through all guests is one until its answer is kept.
#[test]
fn what_takes_long_is_known_before() {
    let daemon = daemon();
    let table: [(i32, &[u8], bool); 7] = [
        (11, b"\0\0\0\0lock\0", true),
        (13, b"\0\0\0\0\x01lock\0", true),
        (13, b"\0\0\0", false),
        (11, b"\x64\0\0\0lock\0", false),
        (10, b"", true),
        (1, b"", false),
        (6, b"user.cfg\0", false),
    ];
    for (id, body, expected) in table {
        assert_eq!(daemon.is_long(id, body), expected, "{id}");
    }
    let _answer = reader(&daemon, 11, b"\0\0\0\0lock\0");
    assert!(!daemon.is_long(11, b"\0\0\0\0lock\0"), "the same question");
    assert!(daemon.is_long(13, b"\0\0\0\0\x01name\0"));
}

#[test]
fn tokens_are_verified_as_whole_lines() {
    let daemon = daemon();
    let table: [(&[u8], i32); 8] = [
        (b"user@pve!a 1\0", 0),
        (b"user@pve!b 2\0", 0),
        (b"user@pve!a 2\0", ENOENT),
        (b"user@pve!a\0", ENOENT),
        (b"user@pve!a 1\nuser@pve!b 2\0", EINVAL),
        (b"user@pve!a 1", EINVAL),
        (b"\0", EINVAL),
        (b"", EINVAL),
    ];
    for (token, error) in table {
        let expected = if error == 0 {
            Ok(Bytes::new())
        } else {
            Err(error)
        };
        assert_eq!(
            reader(&daemon, 12, token),
            expected,
            "{}",
            token.escape_ascii()
        );
    }
    let long = [vec![b'x'; 100_000], vec![0]].concat();
    assert_eq!(reader(&daemon, 12, &long), Err(ENOENT));
    assert_eq!(reader(&Daemon::new([]), 12, b"a\0"), Err(ENOENT), "no file");
}

/// Bodies of all lengths up to the longest fixed part, filled with different bytes.
#[test]
fn short_requests_are_answered() {
    let daemon = daemon();
    for id in 0..16 {
        for length in 0..=530 {
            for fill in [0, 1, b'a', 0xff] {
                let body = vec![fill; length];
                for access in [Access::ReadWrite, Access::ReadOnly] {
                    let _answer = daemon.call(access, id, &body);
                }
            }
        }
    }
}
