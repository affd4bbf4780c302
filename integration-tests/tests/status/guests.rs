//! The guest list and guests' properties as clients see them over IPC.

use std::fs::{self, File};

use integration_tests::{Check, Host, IpcClient};
use nix::errno::Errno;
use serde_json::Value;

use crate::requests::{ask, json, properties, property, refusal};

/// Version of the list, also as told by `.version`, and those of the guests.
fn counters(client: &mut IpcClient) -> (u64, Vec<(String, u64)>) {
    let list = json(&client.guests().unwrap());
    let version = list["version"].as_u64().unwrap();
    let versions = json(&client.version().unwrap());
    assert_eq!(versions["vmlist"].as_u64(), Some(version));
    let guests = list["ids"].as_object().map(|ids| {
        ids.iter()
            .map(|(id, guest)| (id.clone(), guest["version"].as_u64().unwrap()))
            .collect()
    });
    (version, guests.unwrap_or_default())
}

#[test]
fn counters_follow_configs() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    for directory in [
        "nodes/node1/qemu-server",
        "nodes/node2/qemu-server",
        "nodes/node2/lxc",
    ] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    let first = host.path("nodes/node1/qemu-server/100.conf");
    let mut check = Check::new();
    let mut expect = |row: &str, version: u64, guests: &[(&str, u64)]| {
        let guests = guests
            .iter()
            .map(|(id, version)| ((*id).to_owned(), *version))
            .collect();
        check.equal(row, counters(&mut client), (version, guests));
    };
    expect("empty", 0, &[]);
    File::create_new(&first).unwrap();
    expect("create", 1, &[("100", 1)]);
    fs::write(host.path("nodes/node2/lxc/200.conf"), "").unwrap();
    expect("another", 2, &[("100", 1), ("200", 2)]);
    fs::write(&first, "name: a\n").unwrap();
    let version = {
        let mut client = host.ipc();
        counters(&mut client).0
    };
    expect("write", version, &[("100", version), ("200", 2)]);
    fs::rename(&first, host.path("nodes/node2/qemu-server/100.conf")).unwrap();
    expect(
        "migrate: out and in",
        version + 2,
        &[("100", version + 1), ("200", 2)],
    );
    fs::remove_file(host.path("nodes/node2/lxc/200.conf")).unwrap();
    expect("delete", version + 3, &[("100", version + 1)]);
    fs::write(host.path("nodes/node2/lxc/100.conf"), "").expect_err("one id, one guest");
    expect("duplicate", version + 3, &[("100", version + 1)]);
    fs::write(host.path("nodes/node2/lxc/0300.conf"), "").unwrap();
    fs::write(host.path("nodes/node2/lxc/300.cfg"), "").unwrap();
    expect("no guests", version + 3, &[("100", version + 1)]);
    drop(check);
    let list = json(&client.guests().unwrap());
    assert_eq!(list["ids"]["100"]["node"], "node2");
    assert_eq!(list["ids"]["100"]["type"], "qemu");
    daemon.stop();
    let daemon = host.start();
    assert_eq!(
        counters(&mut host.ipc()),
        (1, vec![("100".to_owned(), 1)]),
        "counted anew"
    );
    daemon.stop();
}

#[test]
fn properties_of_odd_configs() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let directory = host.path("nodes/node1/lxc");
    fs::create_dir_all(&directory).unwrap();
    let configs: [(u32, &[u8]); 10] = [
        (100, b"lock: a\"b\\c\x01d\te\n"),
        (101, b"lock: one\nlock: two\nlock: three\n"),
        (102, b"name: x\n[snapshot]\nlock: hidden\n"),
        (103, b"lock:\n"),
        (104, b"lock:   \n"),
        (105, b"lock: no newline at the end"),
        (106, b""),
        (107, b"lock: cut\0here\n"),
        (108, b"\n\r\nlock:\tv\x0b\r\n"),
        (109, &[b'#'; 100_000]),
    ];
    for (vmid, config) in configs {
        fs::write(directory.join(format!("{vmid}.conf")), config).unwrap();
    }
    // The second of these is the first again, from what the daemon remembers.
    for _ in 0..2 {
        let mut check = Check::new();
        for (vmid, expected) in [
            (100, Some("a\"b\\c\u{1}d\te")),
            (101, Some("two")),
            (102, None),
            (103, None),
            (104, Some(" ")),
            (105, Some("no newline at the end")),
            (107, Some("cut")),
            (108, Some("v")),
            (109, None),
        ] {
            let one = json(&ask(&mut client, 11, &property(vmid, b"lock")).unwrap());
            check.equal(
                &format!("one {vmid}"),
                one[vmid.to_string()]["lock"].as_str(),
                expected,
            );
            let all = json(&ask(&mut client, 11, &property(0, b"lock")).unwrap());
            check.equal(
                &format!("all {vmid}"),
                all[vmid.to_string()]["lock"].as_str(),
                expected,
            );
        }
        check.equal(
            "empty",
            ask(&mut client, 11, &property(106, b"lock")),
            refusal(Errno::EIO),
        );
        let both = json(&ask(&mut client, 13, &properties(0, &[b"name", b"lock"])).unwrap());
        check.equal("two names", both["101"]["lock"].as_str(), Some("three"));
        check.equal("left out", both["103"].clone(), Value::Null);
    }
    daemon.stop();
}

#[test]
fn an_answer_is_never_older_than_the_last_write() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    for directory in ["nodes/node1/lxc", "nodes/node2/lxc"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    let (here, there) = (
        host.path("nodes/node1/lxc/100.conf"),
        host.path("nodes/node2/lxc/100.conf"),
    );
    for number in 0..200 {
        fs::write(&here, format!("lock: {number}\n")).unwrap();
        let expected = format!("{{\n\"100\":{{\"lock\": \"{number}\"}}\n}}\n").into_bytes();
        for vmid in [100, 0, 100, 0] {
            assert_eq!(
                ask(&mut client, 11, &property(vmid, b"lock")),
                Ok(expected.clone())
            );
        }
        fs::rename(&here, &there).unwrap();
        assert_eq!(ask(&mut client, 11, &property(100, b"lock")), Ok(expected));
        fs::remove_file(&there).unwrap();
        assert_eq!(
            ask(&mut client, 11, &property(100, b"lock")),
            refusal(Errno::ENOENT)
        );
        assert_eq!(
            ask(&mut client, 11, &property(0, b"lock")),
            Ok(b"{\n\n}\n".to_vec())
        );
    }
    daemon.stop();
}
