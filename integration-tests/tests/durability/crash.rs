//! Single crashes with a known state before them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use integration_tests::{Check, Host, database};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};

use crate::store::Session;

#[test]
fn every_kind_of_operation_survives_a_kill_at_once() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let at = |path: &str| host.path(path);
    fs::create_dir(at("kept")).unwrap();
    for name in [
        "overwritten",
        "truncated",
        "renamed",
        "replaced",
        "removed",
        "stamped",
    ] {
        fs::write(at(name), format!("old {name}")).unwrap();
    }
    // All of this is committed; what follows is only acknowledged.
    File::open(at("overwritten")).unwrap().sync_all().unwrap();
    fs::create_dir(at("made")).unwrap();
    File::create_new(at("made/empty")).unwrap();
    fs::write(at("made/written"), vec![7; 300_000]).unwrap();
    OpenOptions::new()
        .write(true)
        .open(at("overwritten"))
        .unwrap()
        .write_at(b"NEW", 0)
        .unwrap();
    nix::unistd::truncate(&at("truncated"), 3).unwrap();
    fs::rename(at("renamed"), at("kept/moved")).unwrap();
    fs::write(at("source"), "new").unwrap();
    fs::rename(at("source"), at("replaced")).unwrap();
    fs::remove_file(at("removed")).unwrap();
    let stamp = TimeSpec::seconds(1_234_567);
    utimensat(
        AT_FDCWD,
        &at("stamped"),
        &stamp,
        &stamp,
        UtimensatFlags::FollowSymlink,
    )
    .unwrap();
    daemon.kill();

    let daemon = host.start();
    let mut check = Check::new();
    let content = |path: &str| fs::read(at(path)).ok();
    check.equal(
        "mkdir",
        fs::metadata(at("made")).map(|data| data.is_dir()).ok(),
        Some(true),
    );
    check.equal("create", content("made/empty"), Some(Vec::new()));
    check.holds("write", content("made/written") == Some(vec![7; 300_000]));
    check.equal(
        "overwrite",
        content("overwritten"),
        Some(b"NEW overwritten".to_vec()),
    );
    check.equal("truncate", content("truncated"), Some(b"old".to_vec()));
    check.equal(
        "rename",
        content("kept/moved"),
        Some(b"old renamed".to_vec()),
    );
    check.equal("rename away", content("renamed"), None);
    check.equal("replace", content("replaced"), Some(b"new".to_vec()));
    check.equal("unlink", content("removed"), None);
    check.equal(
        "utime",
        fs::metadata(at("stamped")).ok().map(|data| data.mtime()),
        Some(1_234_567),
    );
    drop(check);
    daemon.stop();
}

#[test]
fn versions_go_on_after_a_kill_where_they_were() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    for number in 0..50 {
        fs::create_dir(host.path(number.to_string())).unwrap();
    }
    daemon.kill();
    let daemon = host.start();
    fs::create_dir(host.path("next")).unwrap();
    daemon.stop();
    assert_eq!(database::tree_version(&host.database()), 1 + 51);
    let inodes = database::query(
        &host.database(),
        "SELECT count(DISTINCT inode), max(inode) FROM tree",
    );
    assert_eq!(inodes, "52|52");
}

#[test]
fn nothing_hidden_remains_of_open_unlinked_files() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    fs::write(host.path("g"), "x").unwrap();
    let open = [
        File::open(host.path("f")).unwrap(),
        File::open(host.path("g")).unwrap(),
    ];
    fs::remove_file(host.path("f")).unwrap();
    fs::rename(host.path("g"), host.path("h")).unwrap();
    daemon.kill();
    drop(open);
    host.start().stop();
    let names = database::query(&host.database(), "SELECT name FROM tree WHERE inode != 0");
    assert_eq!(names, "h");
}

#[test]
fn a_killed_daemon_leaves_what_it_should() {
    let host = Host::new();
    let daemon = host.start();
    let pid = daemon.pid();
    fs::write(host.path("f"), "x").unwrap();
    daemon.kill();
    let mut check = Check::new();
    check.equal("its PID", host.recorded_pid(), Some(pid));
    check.holds("no restart flag", !host.restart_flag().exists());
    check.holds("its database", host.database().exists());
    drop(check);
    let daemon = host.start();
    assert_ne!(host.recorded_pid(), Some(pid));
    daemon.stop();
}

#[test]
fn what_was_synced_survives_the_loss_of_everything_in_memory() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    let synced = File::create_new(host.path("d/synced")).unwrap();
    synced.write_at(&[5; 100_000], 0).unwrap();
    synced.sync_all().unwrap();
    let data_synced = File::create_new(host.path("d/data-synced")).unwrap();
    data_synced.write_at(b"data", 0).unwrap();
    data_synced.sync_data().unwrap();
    daemon.kill();
    // A power loss empties the run directory, which lies in memory.
    fs::remove_dir_all(host.run_dir()).unwrap();
    let daemon = host.start();
    assert_eq!(fs::read(host.path("d/synced")).unwrap(), vec![5; 100_000]);
    assert_eq!(fs::read(host.path("d/data-synced")).unwrap(), b"data");
    daemon.stop();
}

#[test]
fn without_its_journal_a_database_is_older_but_whole() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    for number in 0..200 {
        fs::write(host.path(format!("f{number}")), number.to_string()).unwrap();
    }
    daemon.kill();
    fs::remove_dir_all(host.run_dir()).unwrap();
    let daemon = host.start();
    // A prefix of what was done: no gap, no torn file but the very last.
    let present: Vec<usize> = (0..200)
        .filter(|number| host.path(format!("f{number}")).exists())
        .collect();
    let expected: Vec<usize> = (0..present.len()).collect();
    assert_eq!(present, expected);
    for number in present.iter().rev().skip(1) {
        assert_eq!(
            fs::read_to_string(host.path(format!("f{number}"))).unwrap(),
            number.to_string()
        );
    }
    daemon.stop();
}

#[test]
fn a_journal_of_another_database_is_not_replayed() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    // As long as somebody else writes in the database, what is acknowledged stays in the journal.
    let session = Session::holding(&host.database(), "BEGIN IMMEDIATE;");
    fs::write(host.path("of-the-first"), "x").unwrap();
    daemon.kill();
    session.release();
    let other = Host::new();
    let daemon = other.start();
    fs::write(other.path("of-the-second"), "y").unwrap();
    daemon.stop();
    // Kept, so that the other file cannot get its inode number.
    for suffix in ["", "-wal", "-shm"] {
        let path = host.state_dir().join(format!("config.db{suffix}"));
        if path.exists() {
            fs::rename(&path, host.root().join(format!("old.db{suffix}"))).unwrap();
        }
    }
    fs::copy(other.database(), host.database()).unwrap();
    let daemon = host.start();
    assert!(!host.path("of-the-first").exists());
    assert_eq!(fs::read(host.path("of-the-second")).unwrap(), b"y");
    assert!(
        host.log().contains("journal"),
        "it says so:\n{}",
        host.log()
    );
    daemon.stop();
}
