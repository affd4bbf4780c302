//! The IPC service of a running daemon, asked with libqb as every real client does.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::identity::Identity;
use integration_tests::ipc_client::{IpcError, MAX_MESSAGE_SIZE};
use integration_tests::{Check, Host, IpcClient, wait};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::Value;

fn fill(host: &Host) {
    for directory in [
        "priv",
        "nodes/node1/priv",
        "nodes/node1/qemu-server",
        "nodes/node2/lxc",
    ] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    fs::write(host.path("user.cfg"), "hello\n").unwrap();
    fs::write(host.path("empty.cfg"), "").unwrap();
    fs::write(host.path("priv/shadow.cfg"), "secret").unwrap();
    fs::write(
        host.path("priv/token.cfg"),
        "user@pve!tok 1234\nuser@pve!other 5678",
    )
    .unwrap();
    fs::write(host.path("nodes/node1/priv/key"), "secret").unwrap();
    fs::write(
        host.path("nodes/node1/qemu-server/100.conf"),
        "name: web\nmemory: 512\n",
    )
    .unwrap();
    fs::write(
        host.path("nodes/node2/lxc/101.conf"),
        "hostname: db\nmemory: 1024\n",
    )
    .unwrap();
}

fn refused<T: std::fmt::Debug>(
    check: &mut Check,
    row: &str,
    errno: Errno,
    answer: Result<T, IpcError>,
) {
    check.equal(row, answer.map(|_body| ()), Err(IpcError::Refused(errno)));
}

fn exercise(host: &Host) {
    fill(host);
    let mut client = host.ipc();
    let mut check = Check::new();
    for (name, answer) in [
        (".version", client.version()),
        (".members", client.members()),
        (".vmlist", client.guests()),
        (".clusterlog", client.cluster_log(50, "")),
    ] {
        check.equal(name, answer, Ok(fs::read(host.path(name)).unwrap()));
    }
    check.equal("a file", client.config("user.cfg"), Ok(b"hello\n".to_vec()));
    check.equal("an empty file", client.config("empty.cfg"), Ok(Vec::new()));
    check.equal(
        "a private file, as root",
        client.config("priv/shadow.cfg"),
        Ok(b"secret".to_vec()),
    );
    refused(
        &mut check,
        "a missing file",
        Errno::ENOENT,
        client.config("missing"),
    );
    refused(
        &mut check,
        "a directory",
        Errno::ENOENT,
        client.config("nodes"),
    );
    check.equal("set a value", client.set_status("key", b"value\0"), Ok(()));
    check.equal(
        "ask for it",
        client.status("key", ""),
        Ok(b"value\0".to_vec()),
    );
    check.equal(
        "ask for it by node",
        client.status("key", "node1"),
        Ok(b"value\0".to_vec()),
    );
    let version: Value = serde_json::from_slice(&client.version().unwrap()).unwrap();
    check.equal(
        "its version",
        version["kvstore"]["node1"]["key"].as_u64(),
        Some(0),
    );
    check.equal("remove it", client.set_status("key", b""), Ok(()));
    refused(
        &mut check,
        "then it is gone",
        Errno::ENOENT,
        client.status("key", ""),
    );
    refused(
        &mut check,
        "a value that is too large",
        Errno::EFBIG,
        client.set_status("key", &[1; 32 * 1024 + 1]),
    );
    check.equal(
        "log a line",
        client.log(6, "root@pam", "test", "a message"),
        Ok(()),
    );
    let log: Value = serde_json::from_slice(&client.cluster_log(1, "").unwrap()).unwrap();
    check.equal(
        "it is logged",
        log["data"][0]["msg"].as_str(),
        Some("a message"),
    );
    check.equal(
        "with its user",
        log["data"][0]["user"].as_str(),
        Some("root@pam"),
    );
    let property = client.guest_property(100, "memory");
    check.equal(
        "a property",
        property,
        Ok(b"{\n\"100\":{\"memory\": \"512\"}\n}\n".to_vec()),
    );
    let properties: Value =
        serde_json::from_slice(&client.guest_property(0, "memory").unwrap()).unwrap();
    check.equal(
        "of all guests",
        properties["101"]["memory"].as_str(),
        Some("1024"),
    );
    refused(
        &mut check,
        "of a missing guest",
        Errno::ENOENT,
        client.guest_property(102, "memory"),
    );
    check.equal(
        "a token",
        client.verify_token("user@pve!other 5678"),
        Ok(()),
    );
    refused(
        &mut check,
        "a wrong token",
        Errno::ENOENT,
        client.verify_token("user@pve!tok 5678"),
    );
    for operation in [0, 9, 14, 1000, -4] {
        let row = format!("operation {operation}");
        let answer = client.request(operation, &[]).map(<[u8]>::to_vec);
        refused(&mut check, &row, Errno::ECHRNG, answer);
    }
}

#[test]
fn operations_over_shared_memory() {
    let host = Host::new();
    let daemon = host.start();
    exercise(&host);
    daemon.stop();
}

#[test]
fn operations_over_sockets() {
    let host = Host::new();
    let daemon = host.start_with(["-f", "-l", "--ipc-transport", "socket"]);
    exercise(&host);
    daemon.stop();
}

#[test]
fn the_web_servers_group_may_look_but_not_change() {
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    Identity::www_data().run(|| {
        let mut client = host.ipc();
        let mut check = Check::new();
        check.holds("version", client.version().is_ok());
        check.equal("a file", client.config("user.cfg"), Ok(b"hello\n".to_vec()));
        check.equal("a token", client.verify_token("user@pve!tok 1234"), Ok(()));
        check.holds("a property", client.guest_property(100, "memory").is_ok());
        refused(
            &mut check,
            "set a value",
            Errno::EPERM,
            client.set_status("key", b"v\0"),
        );
        refused(
            &mut check,
            "log a line",
            Errno::EPERM,
            client.log(6, "a", "b", "c"),
        );
        for path in [
            "priv/shadow.cfg",
            "/priv/shadow.cfg",
            "//priv//shadow.cfg",
            "priv",
            "nodes/node1/priv/key",
            "nodes/node1//priv/key",
            "nodes//node1/priv/key",
            "/nodes/node1/priv//key",
        ] {
            refused(&mut check, path, Errno::EPERM, client.config(path));
        }
    });
    daemon.stop();
}

#[test]
fn strangers_are_refused() {
    let host = Host::new();
    let daemon = host.start();
    Identity::NOBODY.run(|| {
        IpcClient::connect(host.service()).expect_err("nobody may connect");
    });
    let in_group_only = Identity {
        uid: 65534,
        gid: Identity::www_data().gid,
    };
    in_group_only.run(|| host.ipc().version().map(drop).unwrap());
    host.ipc().version().unwrap();
    daemon.stop();
}

#[test]
fn large_files_arrive_up_to_the_message_size() {
    const RESPONSE_HEADER_SIZE: usize = 24;
    let host = Host::new();
    let daemon = host.start();
    let mut client = host.ipc();
    let largest = MAX_MESSAGE_SIZE - RESPONSE_HEADER_SIZE;
    for size in [1, 4096, 500_000, largest] {
        let content: Vec<u8> = (0..size)
            .map(|position| position.to_le_bytes()[0])
            .collect();
        fs::write(host.path("file"), &content).unwrap();
        assert!(client.config("file").unwrap() == content, "{size} bytes");
    }
    fs::write(host.path("file"), vec![1; MAX_MESSAGE_SIZE]).unwrap();
    client.config("file").expect_err("no message can carry it");
    let mut other = host.ipc();
    other.version().expect("others do not notice");
    daemon.stop();
}

#[test]
fn many_clients_at_once() {
    const CLIENTS: usize = 24;
    const REQUESTS: usize = 100;
    let host = Host::new();
    let daemon = host.start();
    fill(&host);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || {
                let mut client = host.ipc();
                let key = format!("key-{number}");
                for round in 0..REQUESTS {
                    let value = format!("{number} {round}\0");
                    client.set_status(&key, value.as_bytes()).unwrap();
                    assert_eq!(client.status(&key, "").unwrap(), value.as_bytes());
                    assert_eq!(client.config("user.cfg").unwrap(), b"hello\n");
                }
            });
        }
    });
    daemon.stop();
}

#[test]
fn clients_that_die_or_stop_leave_nothing_behind() {
    let host = Host::new();
    let daemon = host.start();
    let prefix = format!("qb-{}-", daemon.pid());
    let directories = || {
        fs::read_dir("/dev/shm")
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&prefix)
            })
            .count()
    };
    // A process that holds a connection and is stopped, then killed.
    let mut other = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ipc-query"))
        .args([host.service(), "hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait::until(
        "the other process to connect",
        Duration::from_secs(10),
        || (directories() == 1).then_some(()),
    );
    let other_pid = nix::unistd::Pid::from_raw(other.id().try_into().unwrap());
    nix::sys::signal::kill(other_pid, Signal::SIGSTOP).unwrap();
    let mut client = host.ipc();
    for _ in 0..100 {
        client.version().unwrap();
    }
    assert_eq!(directories(), 2);
    other.kill().unwrap();
    other.wait().unwrap();
    wait::until(
        "the dead client's files to go",
        Duration::from_secs(10),
        || (directories() == 1).then_some(()),
    );
    client.version().unwrap();
    drop(client);
    wait::until(
        "the other client's files to go",
        Duration::from_secs(10),
        || (directories() == 0).then_some(()),
    );
    let _still_connected = host.ipc();
    daemon.stop();
    assert_eq!(directories(), 0, "a stop leaves nothing");
}

#[test]
fn what_a_killed_daemon_leaves_in_memory_is_cleared_by_the_next() {
    let host = Host::new();
    let daemon = host.start();
    let prefix = format!("qb-{}-", daemon.pid());
    let mut client = host.ipc();
    client.version().unwrap();
    daemon.kill();
    client.version().expect_err("the daemon is gone");
    let daemon = host.start();
    let left: Vec<_> = fs::read_dir("/dev/shm")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(&prefix))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    daemon.stop();
}
