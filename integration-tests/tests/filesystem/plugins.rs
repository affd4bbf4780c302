//! The names in the root directory that are not stored.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::Duration;

use integration_tests::identity::Identity;
use integration_tests::{Check, Host, database, wait};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use serde_json::Value;

use crate::names;

const READ_ONLY: [&str; 5] = [".version", ".members", ".vmlist", ".rrd", ".clusterlog"];
const LINKS: [&str; 4] = ["local", "qemu-server", "lxc", "openvz"];

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap();
    serde_json::from_slice(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)))
}

fn touch(path: &Path) -> nix::Result<()> {
    let stamp = TimeSpec::seconds(5);
    utimensat(
        AT_FDCWD,
        path,
        &stamp,
        &stamp,
        UtimensatFlags::NoFollowSymlink,
    )
}

#[test]
fn operations_on_plugin_names() {
    let host = Host::new();
    let daemon = host.start();
    let www_data = Identity::www_data().gid;
    fs::create_dir(host.path("directory")).unwrap();
    fs::create_dir_all(host.path("nodes/node1")).unwrap();
    fs::write(host.path("file"), "x").unwrap();
    let mut check = Check::new();
    for name in READ_ONLY.into_iter().chain([".debug"]).chain(LINKS) {
        let path = host.path(name);
        let row = |operation: &str| format!("{operation} {name}");
        check.errno(&row("unlink"), Errno::EACCES, fs::remove_file(&path));
        check.errno(&row("rmdir"), Errno::ENOTDIR, fs::remove_dir(&path));
        check.errno(&row("mkdir"), Errno::EEXIST, fs::create_dir(&path));
        check.errno(
            &row("create exclusively"),
            Errno::EEXIST,
            File::create_new(&path),
        );
        check.errno(&row("symlink"), Errno::EEXIST, symlink("x", &path));
        check.errno(
            &row("rename away"),
            Errno::EACCES,
            fs::rename(&path, host.path("away")),
        );
        check.errno(
            &row("rename a file onto"),
            Errno::EACCES,
            fs::rename(host.path("file"), &path),
        );
        check.errno(
            &row("rename a directory onto"),
            Errno::ENOTDIR,
            fs::rename(host.path("directory"), &path),
        );
        check.errno(&row("utime"), Errno::EACCES, touch(&path));
        check.ok(
            &row("chown to what it is"),
            lchown(&path, Some(0), Some(www_data)),
        );
        check.errno(
            &row("chown to another user"),
            Errno::EPERM,
            lchown(&path, Some(33), None),
        );
        check.errno(
            &row("chown to another group"),
            Errno::EPERM,
            lchown(&path, None, Some(0)),
        );
    }
    for name in READ_ONLY.into_iter().chain([".debug"]) {
        let path = host.path(name);
        let row = |operation: &str| format!("{operation} {name}");
        check.ok(
            &row("open for writing"),
            OpenOptions::new().write(true).open(&path),
        );
        check.ok(
            &row("chmod 0640"),
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)),
        );
        let other = fs::Permissions::from_mode(0o600);
        check.errno(
            &row("chmod 0600"),
            Errno::EPERM,
            fs::set_permissions(&path, other),
        );
        check.errno(
            &row("stat below"),
            Errno::ENOTDIR,
            fs::metadata(path.join("x")),
        );
        check.ok(
            &row("chown through the path"),
            chown(&path, Some(0), Some(www_data)),
        );
    }
    for name in READ_ONLY {
        let path = host.path(name);
        let row = |operation: &str| format!("{operation} {name}");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        check.errno(&row("write"), Errno::EIO, file.write_at(b"0\n", 0));
        check.errno(&row("ftruncate"), Errno::EIO, file.set_len(0));
        check.errno(&row("truncate on open"), Errno::EIO, File::create(&path));
    }
    for name in LINKS {
        let nofollow = nix::fcntl::open(
            &host.path(name),
            nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NOFOLLOW,
            nix::sys::stat::Mode::empty(),
        );
        check.errno(&format!("open {name} itself"), Errno::ELOOP, nofollow);
    }
    check.equal("still there", names(&host.mount_dir()).len(), 6 + 4 + 3);
    drop(check);
    daemon.stop();
}

#[test]
fn links_lead_to_the_own_nodes_directories() {
    let host = Host::new();
    let daemon = host.start();
    for (link, target) in [
        ("local", "nodes/node1"),
        ("qemu-server", "nodes/node1/qemu-server"),
        ("lxc", "nodes/node1/lxc"),
        ("openvz", "nodes/node1/openvz"),
    ] {
        assert_eq!(fs::read_link(host.path(link)).unwrap(), Path::new(target));
    }
    fs::create_dir_all(host.path("nodes/node1/lxc")).unwrap();
    fs::write(host.path("lxc/100.conf"), "memory: 1\n").unwrap();
    assert_eq!(
        fs::read(host.path("nodes/node1/lxc/100.conf")).unwrap(),
        b"memory: 1\n"
    );
    // A client asks "is it quorate" like this.
    assert_ne!(
        fs::symlink_metadata(host.path("local")).unwrap().mode() & 0o200,
        0
    );
    daemon.stop();
}

#[test]
fn debug_switch_takes_two_bytes_at_the_start() {
    let host = Host::new();
    let daemon = host.start();
    let path = host.path(".debug");
    assert_eq!(fs::read(&path).unwrap(), b"0\n");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut check = Check::new();
    check.errno("one byte", Errno::EIO, file.write_at(b"1", 0));
    check.errno("another offset", Errno::EIO, file.write_at(b"1\n", 2));
    check.errno("other text", Errno::EIO, file.write_at(b"2\n", 0));
    check.errno("no newline", Errno::EIO, file.write_at(b"11", 0));
    check.equal(
        "nothing has changed",
        fs::read(&path).unwrap(),
        b"0\n".to_vec(),
    );
    check.equal(
        "more bytes than two",
        file.write_at(b"1\n1\n", 0).ok(),
        Some(2),
    );
    check.equal("on", fs::read(&path).unwrap(), b"1\n".to_vec());
    check.ok("truncate", file.set_len(0));
    check.equal(
        "truncate changes nothing",
        fs::read(&path).unwrap(),
        b"1\n".to_vec(),
    );
    check.ok("as the shell does it", fs::write(&path, "0\n"));
    check.equal("off", fs::read(&path).unwrap(), b"0\n".to_vec());
    let appended = OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write(b"1\n"));
    check.errno("append", Errno::EIO, appended);
    drop(check);
    wait::until(
        "the log to tell of both switches",
        Duration::from_secs(5),
        || {
            let log = host.log();
            (log.contains("enable debug mode") && log.contains("disable debug mode")).then_some(())
        },
    );
    drop(file);
    daemon.stop();
    let daemon = host.start();
    assert_eq!(fs::read(&path).unwrap(), b"0\n", "the level is not stored");
    daemon.stop();
}

#[test]
fn documents_of_a_lonely_node() {
    let host = Host::new();
    let daemon = host.start();
    let members = fs::read_to_string(host.path(".members")).unwrap();
    let version = members
        .strip_prefix("{\n\"nodename\": \"node1\",\n\"version\": ")
        .and_then(|rest| rest.strip_suffix("\n}\n"))
        .expect("the short form of .members");
    version.parse::<u32>().expect("a number");
    assert_eq!(
        fs::read_to_string(host.path(".vmlist")).unwrap(),
        "{\n\"version\": 0\n\n}\n"
    );
    assert_eq!(fs::read(host.path(".rrd")).unwrap(), b"");
    let log = json(&host.path(".clusterlog"));
    let first = log["data"]
        .as_array()
        .and_then(|entries| entries.last())
        .expect("an entry");
    assert_eq!(first["msg"], "starting cluster log");
    let version = json(&host.path(".version"));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let start = version["starttime"].as_u64().unwrap();
    assert!(start <= now && now - start < 60, "{start} at {now}");
    assert!(version["kvstore"]["node1"].is_object());
    daemon.stop();
}

#[test]
fn version_counters_follow_exactly_their_paths() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("priv")).unwrap();
    let counter = |name: &str| json(&host.path(".version"))[name].as_u64().unwrap();
    let mut check = Check::new();
    check.equal("after the start", counter("storage.cfg"), 1);
    fs::write(host.path("storage.cfg"), "a").unwrap();
    check.equal("create and write", counter("storage.cfg"), 3);
    fs::write(host.path("storage.cfg"), "b").unwrap();
    check.equal("truncate and write", counter("storage.cfg"), 5);
    touch(&host.path("storage.cfg")).unwrap();
    check.equal("utime", counter("storage.cfg"), 6);
    fs::write(host.path("storage.cfg.tmp"), "c").unwrap();
    fs::rename(host.path("storage.cfg.tmp"), host.path("storage.cfg")).unwrap();
    check.equal("replaced by a rename", counter("storage.cfg"), 7);
    fs::rename(host.path("storage.cfg"), host.path("priv/tfa.cfg")).unwrap();
    check.equal("renamed away", counter("storage.cfg"), 8);
    check.equal("renamed to", counter("priv/tfa.cfg"), 2);
    fs::remove_file(host.path("priv/tfa.cfg")).unwrap();
    check.equal("deleted", counter("priv/tfa.cfg"), 3);
    check.errno(
        "a failed operation",
        Errno::ENOENT,
        fs::remove_file(host.path("priv/tfa.cfg")),
    );
    check.equal("does not count", counter("priv/tfa.cfg"), 3);
    fs::create_dir(host.path("user.cfg")).unwrap();
    check.equal("mkdir does not count", counter("user.cfg"), 1);
    fs::remove_dir(host.path("user.cfg")).unwrap();
    check.equal("rmdir does", counter("user.cfg"), 2);
    check.equal("others stay", counter("datacenter.cfg"), 1);
    drop(check);
    daemon.stop();
}

#[test]
fn an_open_document_is_one_consistent_text() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir_all(host.path("nodes/node1/qemu-server")).unwrap();
    let mut old = File::open(host.path(".vmlist")).unwrap();
    let size = old.metadata().unwrap().len();
    let mut begin = [0; 5];
    old.read_exact(&mut begin).unwrap();
    for vmid in 100..150 {
        fs::write(host.path(format!("qemu-server/{vmid}.conf")), "x").unwrap();
    }
    let fresh = fs::read_to_string(host.path(".vmlist")).unwrap();
    assert!(
        fresh.contains("\"149\""),
        "an open without any stat sees the present"
    );
    let mut rest = String::new();
    old.read_to_string(&mut rest).unwrap();
    let text = format!("{}{rest}", String::from_utf8_lossy(&begin));
    assert_eq!(
        text, "{\n\"version\": 0\n\n}\n",
        "the slow reader stays in its text"
    );
    assert_eq!(text.len() as u64, size);
    daemon.stop();
}

#[test]
fn a_plugin_hides_a_stored_entry_of_its_name() {
    let host = Host::new();
    host.start().stop();
    let insert = "INSERT INTO tree VALUES (2, 0, 2, 0, 0, 8, '.version', 'stored'), (3, 0, 3, 0, 0, 4, 'local', NULL);
                  UPDATE tree SET version = 3 WHERE inode = 0";
    assert_eq!(database::query(&host.database(), insert), "");
    let daemon = host.start();
    let listed = names(&host.mount_dir());
    assert_eq!(listed.iter().filter(|name| *name == ".version").count(), 1);
    assert_eq!(listed.iter().filter(|name| *name == "local").count(), 1);
    assert!(json(&host.path(".version"))["starttime"].is_u64());
    assert!(
        fs::symlink_metadata(host.path("local"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(
        host.ipc().config(".version").unwrap(),
        b"stored",
        "IPC reads the tree"
    );
    daemon.stop();
}
