//! Documents read through the mount and over IPC.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::{Check, Host};

use crate::requests::{ask, cluster_log, json};

/// The documents, their operations, and what an answer has behind the document.
const DOCUMENTS: [(&str, i32, &[u8]); 4] = [
    (".version", 1, b""),
    (".members", 2, b""),
    (".vmlist", 3, b""),
    (".rrd", 10, b"\0"),
];

#[test]
fn the_mount_and_ipc_tell_the_same() {
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    fs::create_dir_all(host.path("nodes/node1/lxc")).unwrap();
    let mut check = Check::new();
    for round in 0..5 {
        fs::write(
            host.path(format!("nodes/node1/lxc/{}.conf", 100 + round)),
            "arch: amd64\n",
        )
        .unwrap();
        fs::write(host.path("user.cfg"), format!("{round}")).unwrap();
        client
            .set_status("key", format!("{round}\0").as_bytes())
            .unwrap();
        client
            .set_status("nodeip", format!("192.0.2.{round}\0").as_bytes())
            .unwrap();
        client
            .log(6, "root@pam", "test", &format!("round {round}"))
            .unwrap();
        client
            .set_status("rrd/odd/key", format!("1:{round}\0").as_bytes())
            .unwrap();
        for (name, operation, end) in DOCUMENTS {
            let file = || [&fs::read(host.path(name)).unwrap()[..], end].concat();
            // The text of .rrd is made anew every other second, which may be now.
            let (before, answer, after) =
                (file(), ask(&mut client, operation, &[]).unwrap(), file());
            check.holds(name, answer == before || answer == after);
        }
        let log = ask(&mut client, 8, &cluster_log(0, b"")).unwrap();
        check.holds(
            ".clusterlog",
            log == fs::read(host.path(".clusterlog")).unwrap(),
        );
        for name in [".version", ".members", ".vmlist", ".clusterlog"] {
            json(&fs::read(host.path(name)).unwrap());
        }
    }
    drop(check);
    daemon.stop();
}

#[test]
fn documents_are_whole_while_everything_changes() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("nodes/node1/lxc")).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = host.ipc();
            for round in 0..200 {
                let path = host.path(format!("nodes/node1/lxc/{}.conf", 100 + round % 20));
                match round % 40 {
                    0..20 => fs::write(path, "a: b\n").unwrap(),
                    _ => fs::remove_file(path).unwrap(),
                }
                client
                    .set_status(&format!("key{}", round % 7), b"v\0")
                    .unwrap();
                client.log(6, "root@pam", "t\"ag", "text \\").unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = host.ipc();
                let mut last_version = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let guests = json(&client.guests().unwrap());
                    let version = guests["version"].as_u64().unwrap();
                    assert!(version >= last_version, "the list does not go back");
                    last_version = version;
                    json(&client.version().unwrap());
                    json(&client.cluster_log(0, "").unwrap());
                    json(&fs::read(host.path(".vmlist")).unwrap());
                    json(&fs::read(host.path(".version")).unwrap());
                    json(&fs::read(host.path(".clusterlog")).unwrap());
                }
            });
        }
    });
    daemon.stop();
}
