//! One configuration per guest id, and the list of guests.

use std::fs::{self, File};

use integration_tests::{Check, Host, database};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::make_directories;

fn document(host: &Host) -> Value {
    serde_json::from_slice(&fs::read(host.path(".vmlist")).unwrap()).unwrap()
}

fn version(host: &Host) -> u64 {
    document(host)["version"].as_u64().unwrap()
}

/// Id, node and kind of each guest.
fn guests(host: &Host) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let document = document(host);
    let Some(ids) = document["ids"].as_object() else {
        return Vec::new();
    };
    ids.iter()
        .map(|(id, guest)| (id.clone(), text(&guest["node"]), text(&guest["type"])))
        .collect()
}

fn guest(id: u32, node: &str, kind: &str) -> (String, String, String) {
    (id.to_string(), node.to_owned(), kind.to_owned())
}

const DIRECTORIES: [&str; 5] = [
    "nodes/node1/qemu-server",
    "nodes/node1/lxc",
    "nodes/node2/qemu-server",
    "nodes/node2/lxc",
    "nodes/b_x/lxc",
];

#[test]
fn the_list_follows_every_operation() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &DIRECTORIES);
    let at = |path: &str| host.path(path);
    let mut check = Check::new();
    check.equal("empty", document(&host), json!({"version": 0}));

    File::create_new(at("nodes/node1/qemu-server/100.conf")).unwrap();
    check.equal(
        "created",
        (guests(&host), version(&host)),
        (vec![guest(100, "node1", "qemu")], 1),
    );
    fs::write(at("nodes/node1/qemu-server/100.conf"), "x").unwrap();
    check.equal("truncated and written", version(&host), 3);
    fs::rename(
        at("nodes/node1/qemu-server/100.conf"),
        at("nodes/node2/qemu-server/100.conf"),
    )
    .unwrap();
    check.equal(
        "migrated",
        (guests(&host), version(&host)),
        (vec![guest(100, "node2", "qemu")], 5),
    );
    fs::rename(
        at("nodes/node2/qemu-server/100.conf"),
        at("nodes/node2/lxc/100.conf"),
    )
    .unwrap();
    check.equal(
        "of another kind",
        guests(&host),
        vec![guest(100, "node2", "lxc")],
    );
    fs::rename(
        at("nodes/node2/lxc/100.conf"),
        at("nodes/node2/lxc/101.conf"),
    )
    .unwrap();
    check.equal(
        "of another id",
        guests(&host),
        vec![guest(101, "node2", "lxc")],
    );
    fs::write(at("nodes/node2/lxc/102.conf.tmp.7"), "y").unwrap();
    check.equal("temporary names do not count", guests(&host).len(), 1);
    fs::rename(
        at("nodes/node2/lxc/102.conf.tmp.7"),
        at("nodes/node2/lxc/102.conf"),
    )
    .unwrap();
    check.equal("moved into place", guests(&host).len(), 2);
    let before = version(&host);
    fs::remove_file(at("nodes/node2/lxc/101.conf")).unwrap();
    check.equal(
        "deleted",
        (guests(&host), version(&host)),
        (vec![guest(102, "node2", "lxc")], before + 1),
    );
    for path in [
        "nodes/node1/lxc/0100.conf",
        "nodes/node1/lxc/4294967296.conf",
        "nodes/node1/200.conf",
        "300.conf",
        "nodes/b_x/lxc/400.conf",
    ] {
        fs::write(at(path), "x").unwrap();
        check.equal(path, guests(&host).len(), 1);
    }
    fs::write(at("nodes/node1/lxc/1.conf"), "x").unwrap();
    fs::write(at("nodes/node1/lxc/4294967295.conf"), "x").unwrap();
    check.equal("smallest and largest id", guests(&host).len(), 3);
    drop(check);
    let before = guests(&host);
    daemon.stop();
    let daemon = host.start();
    assert_eq!(guests(&host), before, "found again at the next start");
    assert_eq!(version(&host), 1, "the scan is one version");
    daemon.stop();
}

#[test]
fn an_id_lives_in_one_place() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &DIRECTORIES);
    let at = |path: &str| host.path(path);
    fs::write(at("nodes/node1/qemu-server/100.conf"), "first").unwrap();
    fs::write(at("nodes/node2/lxc/101.conf"), "second").unwrap();
    fs::write(at("plain"), "third").unwrap();
    let mut check = Check::new();
    for path in [
        "nodes/node2/qemu-server/100.conf",
        "nodes/node1/lxc/100.conf",
        "nodes/node1/lxc/101.conf",
    ] {
        check.errno(
            &format!("create {path}"),
            Errno::EEXIST,
            File::create_new(at(path)),
        );
        check.errno(
            &format!("create or open {path}"),
            Errno::EEXIST,
            File::create(at(path)),
        );
        check.errno(
            &format!("rename a file to {path}"),
            Errno::EEXIST,
            fs::rename(at("plain"), at(path)),
        );
    }
    let taken = fs::rename(
        at("nodes/node1/qemu-server/100.conf"),
        at("nodes/node1/qemu-server/101.conf"),
    );
    check.errno("take an id that lives elsewhere", Errno::EEXIST, taken);
    check.ok(
        "an invalid node name has no guests",
        File::create_new(at("nodes/b_x/lxc/100.conf")),
    );
    check.ok(
        "nor has another directory",
        File::create_new(at("100.conf")),
    );
    check.equal(
        "the plain file is untouched",
        fs::read(at("plain")).ok(),
        Some(b"third".to_vec()),
    );
    check.equal(
        "the list",
        guests(&host),
        vec![guest(100, "node1", "qemu"), guest(101, "node2", "lxc")],
    );
    check.ok(
        "delete",
        fs::remove_file(at("nodes/node1/qemu-server/100.conf")),
    );
    check.ok(
        "then the id is free",
        File::create_new(at("nodes/node1/lxc/100.conf")),
    );
    drop(check);
    daemon.stop();
}

#[test]
fn a_guest_unlinked_while_its_configuration_is_open_is_gone() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &DIRECTORIES);
    let path = host.path("nodes/node1/lxc/100.conf");
    fs::write(&path, "x").unwrap();
    let open = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(guests(&host), []);
    File::create_new(host.path("nodes/node2/lxc/100.conf")).unwrap();
    drop(open);
    assert_eq!(guests(&host), [guest(100, "node2", "lxc")]);
    daemon.stop();
}

#[test]
fn a_directory_named_like_a_configuration_frees_no_id() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(&host.mount_dir(), &DIRECTORIES);
    fs::write(host.path("nodes/node1/lxc/100.conf"), "x").unwrap();
    let directory = host.path("nodes/node2/qemu-server/100.conf");
    if fs::create_dir(&directory).is_ok() {
        fs::remove_dir(&directory).unwrap();
    }
    assert_eq!(guests(&host), [guest(100, "node1", "lxc")]);
    let second = File::create_new(host.path("nodes/node2/qemu-server/100.conf"));
    assert_eq!(
        second.unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    daemon.stop();
    let daemon = host.start();
    assert_eq!(guests(&host), [guest(100, "node1", "lxc")]);
    daemon.stop();
}

#[test]
fn a_file_in_place_of_a_guest_directory_harms_nobody() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(
        &host.mount_dir(),
        &["nodes/node1/qemu-server", "nodes/node2"],
    );
    fs::write(host.path("qemu-server/100.conf"), "x").unwrap();
    for name in ["qemu-server", "lxc", "openvz"] {
        File::create_new(host.path("nodes/node2").join(name))
            .expect_err("the next start of a C daemon would fail");
    }
    daemon.stop();
    let insert = "INSERT INTO tree SELECT 900, inode, 900, 0, 0, 8, 'lxc', 'x' FROM tree WHERE name = 'node2';
                  UPDATE tree SET version = 900 WHERE inode = 0";
    assert_eq!(database::query(&host.database(), insert), "");
    let daemon = host.start();
    assert_eq!(guests(&host), [guest(100, "node1", "qemu")]);
    assert_eq!(
        fs::read(host.path("nodes/node2/lxc")).unwrap(),
        b"x",
        "an old database with one still loads"
    );
    daemon.stop();
}

#[test]
fn openvz_guests_are_shown_and_their_ids_are_taken() {
    let host = Host::new();
    let daemon = host.start();
    make_directories(
        &host.mount_dir(),
        &["nodes/node1/openvz", "nodes/node1/lxc"],
    );
    fs::write(host.path("nodes/node1/openvz/100.conf"), "x").unwrap();
    assert_eq!(guests(&host), [guest(100, "node1", "openvz")]);
    let second = File::create_new(host.path("nodes/node1/lxc/100.conf"));
    assert_eq!(
        second.unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    daemon.stop();
    let daemon = host.start();
    assert_eq!(guests(&host), [guest(100, "node1", "openvz")]);
    daemon.stop();
}
