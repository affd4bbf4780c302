//! What a start makes, and what keeps it from succeeding.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use integration_tests::identity::Identity;
use integration_tests::{Check, Daemon, Host, IpcClient, database, proc, wait};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::{STOP_BAR, hold_instance_lock, lock_file};

fn mode_and_owner(path: &Path) -> Option<(u32, u32, u32)> {
    let data = fs::symlink_metadata(path).ok()?;
    Some((data.mode() & 0o7777, data.uid(), data.gid()))
}

/// A start that must fail with status 255, leave no mount and say certain words.
fn assert_refused(host: &Host, words: &str) {
    let status = host.failed_start(["-f", "-l"]);
    assert_eq!(status.code(), Some(255), "{}", host.log());
    assert!(
        host.log().contains(words),
        "expected {words:?} in:\n{}",
        host.log()
    );
    assert!(
        !proc::is_mounted(&host.mount_dir()),
        "a failed start leaves no mount"
    );
    assert_eq!(
        host.recorded_pid(),
        None,
        "a failed start leaves no PID file"
    );
}

#[test]
fn files_of_a_running_daemon() {
    let host = Host::new();
    let www_data = Identity::www_data().gid;
    let daemon = host.start();
    let mut check = Check::new();
    for (path, expected) in [
        (host.state_dir(), (0o750, 0, 0)),
        (lock_file(&host), (0o600, 0, 0)),
        (host.database(), (0o600, 0, 0)),
        (host.run_dir(), (0o750, 0, www_data)),
        (host.pid_file(), (0o644, 0, 0)),
    ] {
        check.equal(
            &path.display().to_string(),
            mode_and_owner(&path),
            Some(expected),
        );
    }
    check.equal(
        "the PID file's content",
        host.recorded_pid(),
        Some(daemon.pid()),
    );
    check.holds(
        "no restart flag while it runs",
        !host.restart_flag().exists(),
    );
    check.equal(
        "the lock file is empty",
        fs::metadata(lock_file(&host)).unwrap().len(),
        0,
    );
    let left_over: Vec<_> = fs::read_dir(host.pid_file().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("pve-cluster.pid."))
        .collect();
    check.equal("no temporary PID files", left_over.len(), 0);
    drop(check);
    daemon.stop();
}

#[test]
fn modes_of_what_exists_already() {
    let host = Host::new();
    let www_data = Identity::www_data().gid;
    host.start().stop();
    let set_mode =
        |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    set_mode(&host.state_dir(), 0o711);
    set_mode(&host.run_dir(), 0o777);
    set_mode(&host.database(), 0o644);
    std::os::unix::fs::chown(host.run_dir(), Some(0), Some(0)).unwrap();
    let daemon = host.start();
    let mut check = Check::new();
    check.equal(
        "the state directory is left alone",
        mode_and_owner(&host.state_dir()),
        Some((0o711, 0, 0)),
    );
    check.equal(
        "the run directory is corrected",
        mode_and_owner(&host.run_dir()),
        Some((0o750, 0, www_data)),
    );
    check.equal(
        "so is the database",
        mode_and_owner(&host.database()),
        Some((0o600, 0, 0)),
    );
    drop(check);
    daemon.stop();
}

#[test]
fn a_second_instance_gives_up_and_disturbs_nobody() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    let start = Instant::now();
    let status = host.failed_start(["-f", "-l"]);
    assert_eq!(status.code(), Some(255));
    assert!(
        start.elapsed() > Duration::from_secs(8),
        "it waits for the other one to end"
    );
    let log = host.log();
    assert!(
        log.contains("unable to acquire pmxcfs lock - trying again"),
        "{log}"
    );
    assert!(
        log.contains("unable to acquire pmxcfs lock: Resource temporarily unavailable"),
        "{log}"
    );
    assert_eq!(host.recorded_pid(), Some(daemon.pid()));
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    host.ipc().version().unwrap();
    daemon.stop();
}

#[test]
fn a_start_waits_for_the_previous_instance_to_end() {
    let host = Host::new();
    let lock = hold_instance_lock(&host);
    let mut daemon = host.spawn(["-f", "-l"]);
    wait::until(
        "the daemon to find the lock taken",
        Duration::from_secs(10),
        || {
            host.log()
                .contains("unable to acquire pmxcfs lock - trying again")
                .then_some(())
        },
    );
    assert!(!proc::is_mounted(&host.mount_dir()));
    lock.unlock().map_err(|(_lock, errno)| errno).unwrap();
    daemon.await_mount();
    daemon.stop();
}

#[test]
fn a_start_that_waits_can_be_stopped() {
    let host = Host::new();
    let lock = hold_instance_lock(&host);
    let daemon = host.spawn(["-f", "-l"]);
    wait::until(
        "the daemon to find the lock taken",
        Duration::from_secs(10),
        || {
            host.log()
                .contains("unable to acquire pmxcfs lock - trying again")
                .then_some(())
        },
    );
    let exit = daemon.end_with(Signal::SIGTERM);
    assert!(exit.elapsed < STOP_BAR, "{:?}", exit.elapsed);
    assert!(!proc::is_mounted(&host.mount_dir()));
    drop(lock);
}

#[test]
fn something_in_the_mount_point_is_not_hidden() {
    let host = Host::new();
    fs::create_dir_all(host.mount_dir()).unwrap();
    fs::write(host.path("precious"), "x").unwrap();
    assert_refused(&host, "not empty");
    assert_eq!(fs::read(host.path("precious")).unwrap(), b"x");
}

#[test]
fn another_mount_in_the_place_is_taken_away() {
    let host = Host::new();
    fs::create_dir_all(host.mount_dir()).unwrap();
    mount(
        Some("tmpfs"),
        &host.mount_dir(),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    fs::write(host.path("in-the-tmpfs"), "x").unwrap();
    let daemon = host.start();
    assert!(!host.path("in-the-tmpfs").exists());
    daemon.stop();
}

#[test]
fn a_dead_mount_is_replaced() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    daemon.kill();
    let dead = fs::read(host.path("f")).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(Errno::ENOTCONN as i32), "{dead}");
    let daemon = host.start();
    assert_eq!(host.recorded_pid(), Some(daemon.pid()));
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn a_dead_mount_in_use_is_replaced() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("f"), "x").unwrap();
    let (directory, file) = (
        File::open(host.path("d")).unwrap(),
        File::open(host.path("f")).unwrap(),
    );
    daemon.kill();
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    file.metadata().expect_err("the old handle is dead");
    drop((directory, file));
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn an_unusable_database_is_refused_and_left_as_it_is() {
    type Damage<'a> = &'a dyn Fn(&Host);
    let cases: [(&str, Damage<'_>); 4] = [
        ("text", &|host| {
            fs::write(host.database(), "this is no database\n".repeat(300)).unwrap()
        }),
        ("a table without its columns", &|host| {
            fs::remove_file(host.database()).unwrap();
            assert_eq!(
                database::query(
                    &host.database(),
                    "CREATE TABLE tree (inode INTEGER PRIMARY KEY)"
                ),
                ""
            );
        }),
        ("a missing parent", &|host| {
            let insert = "INSERT INTO tree VALUES (5, 4, 5, 0, 0, 8, 'x', 'x')";
            assert_eq!(database::query(&host.database(), insert), "");
        }),
        ("one name twice", &|host| {
            let insert = "INSERT INTO tree VALUES (5, 0, 5, 0, 0, 8, 'x', 'x'), (6, 0, 6, 0, 0, 8, 'x', 'y')";
            assert_eq!(database::query(&host.database(), insert), "");
        }),
    ];
    let content = |host: &Host| {
        let bytes = fs::read(host.database()).unwrap();
        if bytes.starts_with(b"SQLite format 3") {
            database::query(&host.database(), ".dump").into_bytes()
        } else {
            bytes
        }
    };
    for (name, damage) in cases {
        let host = Host::new();
        host.start().stop();
        damage(&host);
        let before = content(&host);
        assert_refused(&host, "memdb_open failed - unable to open database");
        assert!(content(&host) == before, "{name}: the rows are untouched");
        let status = host.command(["-l"]).status().unwrap();
        assert_eq!(
            status.code(),
            Some(255),
            "{name}: a start in the background fails alike"
        );
        assert!(!proc::is_mounted(&host.mount_dir()) && host.recorded_pid().is_none());
    }
}

#[test]
fn a_taken_ipc_name_fails_the_start() {
    let host = Host::new();
    let daemon = host.start();
    let other = Host::with_service_of(&host);
    let status = other.failed_start(["-f", "-l"]);
    assert_eq!(status.code(), Some(255), "{}", other.log());
    assert!(!proc::is_mounted(&other.mount_dir()));
    let client: IpcClient = host.ipc();
    drop(client);
    daemon.stop();
}

#[test]
fn an_empty_start_is_quick() {
    let host = Host::new();
    let daemon: Daemon<'_> = host.start();
    // Far above the bar that the benchmark checks, far below a fixed wait.
    assert!(
        daemon.age() < Duration::from_millis(900),
        "{:?}",
        daemon.age()
    );
    daemon.stop();
}

#[test]
fn a_database_without_content_is_refused_and_left_alone() {
    let host = Host::new();
    fs::create_dir_all(host.state_dir()).unwrap();
    fs::write(host.database(), "").unwrap();
    assert_refused(&host, "has 0 bytes");
    assert_eq!(fs::read(host.database()).unwrap(), b"");

    let log = host.database().with_extension("db-wal");
    fs::write(&log, "content").unwrap();
    assert_refused(&host, "config.db-wal");
    assert_eq!(fs::read(&log).unwrap(), b"content");
}
