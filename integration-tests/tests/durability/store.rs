//! The database file while the daemon runs and after it has stopped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use integration_tests::{Check, Host, database, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// An operator's sqlite3 session that holds a transaction open.
pub(crate) struct Session {
    process: Child,
    input: ChildStdin,
}

impl Session {
    pub(crate) fn holding(database: &Path, transaction: &str) -> Self {
        let mut process = Command::new("sqlite3")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, ".timeout 5000\n{transaction}\nSELECT 'holding';").unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("holding\n") {
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "sqlite3 ended: {line}"
            );
        }
        Self { process, input }
    }

    pub(crate) fn release(mut self) {
        writeln!(self.input, "ROLLBACK;\n.quit").unwrap();
        drop(self.input);
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn operators_can_read_the_database_while_it_is_in_use() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    let file = File::create_new(host.path("d/f")).unwrap();
    file.write_at(b"content", 0).unwrap();
    file.sync_all().unwrap();
    let query = |text: &str| database::query(&host.database(), text);
    let mut check = Check::new();
    check.equal("whole", query("PRAGMA integrity_check"), "ok".to_owned());
    check.equal("mode", query("PRAGMA journal_mode"), "wal".to_owned());
    check.equal(
        "rows",
        query("SELECT inode, parent, version, writer, type, name, data FROM tree ORDER BY inode"),
        "0|0|4|0|8|__version__|\n2|0|2|0|4|d|\n3|2|4|0|8|f|content".to_owned(),
    );
    let columns = query(
        "SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || pk FROM pragma_table_info('tree')",
    );
    check.equal(
        "columns",
        columns.lines().map(ToOwned::to_owned).collect::<Vec<_>>(),
        [
            "inode INTEGER 1 1",
            "parent INTEGER 1 0",
            "version INTEGER 1 0",
            "writer INTEGER 1 0",
            "mtime INTEGER 1 0",
            "type INTEGER 1 0",
            "name TEXT 1 0",
            "data BLOB 0 0",
        ]
        .map(ToOwned::to_owned)
        .to_vec(),
    );
    drop(check);
    drop(file);
    daemon.stop();
    assert_eq!(query("PRAGMA integrity_check"), "ok");
    assert_eq!(query("SELECT count(*) FROM tree"), "3");
}

#[test]
fn files_and_directories_are_stored_as_the_c_daemon_stores_them() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("moved")).unwrap();
    fs::rename(host.path("moved"), host.path("d")).unwrap();
    fs::write(host.path("empty"), "").unwrap();
    fs::write(host.path("emptied"), "x").unwrap();
    fs::write(host.path("emptied"), "").unwrap();
    daemon.stop();
    let rows = database::query(
        &host.database(),
        "SELECT name, type, typeof(name), coalesce(length(data), 0) FROM tree ORDER BY inode",
    );
    assert_eq!(
        rows,
        "__version__|8|text|0\nd|4|text|0\nempty|8|text|0\nemptied|8|text|0"
    );
}

#[test]
fn a_writer_in_the_database_holds_nobody_up() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    fs::write(host.path("f"), "before").unwrap();
    let session = Session::holding(&host.database(), "BEGIN IMMEDIATE;");
    let start = Instant::now();
    for number in 0..50 {
        fs::write(host.path(format!("f{number}")), "meanwhile").unwrap();
        assert_eq!(fs::read(host.path("f")).unwrap(), b"before");
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    session.release();
    File::open(host.path("f49")).unwrap().sync_all().unwrap();
    let stored = database::query(
        &host.database(),
        "SELECT count(*) FROM tree WHERE data = CAST('meanwhile' AS BLOB)",
    );
    assert_eq!(stored, "50");
    daemon.stop();
}

#[test]
fn a_kill_while_the_database_is_locked_loses_nothing() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let session = Session::holding(&host.database(), "BEGIN IMMEDIATE;");
    for number in 0..20 {
        fs::write(host.path(format!("f{number}")), number.to_string()).unwrap();
    }
    daemon.kill();
    session.release();
    let daemon = host.start();
    for number in 0..20 {
        assert_eq!(
            fs::read_to_string(host.path(format!("f{number}"))).unwrap(),
            number.to_string()
        );
    }
    daemon.stop();
}

#[test]
fn a_kill_without_a_run_directory_while_the_database_is_locked_loses_nothing() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let session = Session::holding(&host.database(), "BEGIN IMMEDIATE;");
    for number in 0..3000 {
        if number == 1000 {
            for entry in fs::read_dir(host.run_dir()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    fs::remove_dir_all(path).unwrap();
                } else {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        fs::write(host.path(format!("f{number}")), number.to_string()).unwrap();
    }
    daemon.kill();
    session.release();
    let daemon = host.start();
    for number in 0..3000 {
        assert_eq!(
            fs::read_to_string(host.path(format!("f{number}"))).unwrap(),
            number.to_string()
        );
    }
    daemon.stop();
}

#[test]
fn a_stop_while_the_database_is_locked_is_quick_and_loses_nothing() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let session = Session::holding(&host.database(), "BEGIN IMMEDIATE;");
    fs::write(host.path("f"), "x").unwrap();
    let elapsed = daemon.stop();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    session.release();
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn the_log_stays_small_and_shrinks_after_a_reader() {
    const LARGE: usize = 1024 * 1024;
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let file = File::create_new(host.path("f")).unwrap();
    let rewrite = |count: u8| {
        for round in 0..count {
            file.write_all_at(&vec![round; LARGE], 0).unwrap();
            file.sync_all().unwrap();
        }
    };
    let log_size =
        || fs::metadata(host.state_dir().join("config.db-wal")).map_or(0, |data| data.len());
    rewrite(30);
    assert!(log_size() < 16 * LARGE as u64, "{} bytes", log_size());
    let session = Session::holding(&host.database(), "BEGIN; SELECT count(*) FROM tree;");
    rewrite(30);
    session.release();
    rewrite(10);
    wait::until("the log to shrink", Duration::from_secs(10), || {
        rewrite(1);
        (log_size() < 16 * LARGE as u64).then_some(())
    });
    drop(file);
    daemon.stop();
}

/// A small disk under the state directory.
struct SmallDisk {
    mount_dir: PathBuf,
}

impl SmallDisk {
    fn below(host: &Host) -> Self {
        let mount_dir = host.state_dir();
        fs::create_dir_all(&mount_dir).unwrap();
        mount(
            Some("tmpfs"),
            &mount_dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=4m"),
        )
        .unwrap();
        Self { mount_dir }
    }

    fn grow(&self) {
        mount(
            Some("tmpfs"),
            &self.mount_dir,
            None::<&str>,
            MsFlags::MS_REMOUNT,
            Some("size=512m"),
        )
        .unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.mount_dir, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_turns_it_read_only_and_room_brings_it_back() {
    let host = Host::with_run_directory_in_ram();
    let disk = SmallDisk::below(&host);
    let daemon = host.start();
    let content = |number: usize| vec![number as u8; 100_000];
    let mut written = 0;
    let refusal = loop {
        match fs::write(host.path(format!("f{written}")), content(written)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        // The crash journal takes 64 MiB while the database cannot be written.
        assert!(written < 800, "80 MB were taken on a disk of 4 MB");
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::EIO), "{refusal}");
    assert!(written > 10, "only {written} files fit");
    for number in 0..written {
        assert!(
            fs::read(host.path(format!("f{number}"))).unwrap() == content(number),
            "reads go on"
        );
    }
    disk.grow();
    wait::until("writes to be taken again", Duration::from_secs(30), || {
        fs::write(host.path("after"), "x").ok()
    });
    daemon.kill();
    let daemon = host.start();
    for number in 0..written {
        assert!(
            fs::read(host.path(format!("f{number}"))).unwrap() == content(number),
            "f{number} was acknowledged"
        );
    }
    assert_eq!(fs::read(host.path("after")).unwrap(), b"x");
    daemon.stop();
    drop(disk);
}
