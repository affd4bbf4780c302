//! The report of a daemon in local mode, as text and as JSON.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use integration_tests::identity::Identity;
use integration_tests::ipc_client::IpcError;
use integration_tests::{Check, Host, database, proc};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::{
    DEGRADED, HEALTHY, ask, control_socket, count, number, operation, report, report_when,
};

fn is_stored(report: &Value) -> bool {
    report["store"]["queued_operation_count"] == 0
}

#[test]
fn text_tells_everything_at_a_glance() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    host.ipc().version().unwrap();
    let text = ask(&host, ["status"]).expect(HEALTHY);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("pmxcfs     node1: healthy"), "{text}");
    let mut check = Check::new();
    for part in [
        format!("pid {}, up ", daemon.pid()),
        "\nmode       local, quorate\n".to_owned(),
        "\ntree       version ".to_owned(),
        "\nstore      running\n".to_owned(),
        "of crash journal".to_owned(),
        "\nrrd        0 values queued".to_owned(),
        "\nresources  ".to_owned(),
        format!("database        {}\n", host.database().display()),
        format!("control socket  {}\n", control_socket(&host).display()),
        format!("IPC service     {}\n", host.service()),
        "\nfuse ".to_owned(),
        "\n  create ".to_owned(),
        "\nipc ".to_owned(),
        "\n  version ".to_owned(),
    ] {
        check.holds(&part, text.contains(&part));
    }
    check.holds("no cluster", !text.contains("\ngroup"));
    check.holds("no NUL, no escapes", !text.contains(['\0', '\x1b']));
    daemon.stop();
}

#[test]
fn json_is_one_line_with_what_programs_need() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    File::open(host.path("f")).unwrap().sync_all().unwrap();
    let text = ask(&host, ["status", "--json"]).expect(HEALTHY);
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let mut check = Check::new();
    for (field, expected) in [
        ("/pid", daemon.pid().into()),
        ("/node_name", "node1".into()),
        ("/mode", "local".into()),
        ("/is_quorate", true.into()),
        ("/problems", Value::Array(Vec::new())),
        ("/cluster", Value::Null),
        ("/store/is_failed", false.into()),
        ("/store/failure", Value::Null),
        ("/store/busy_count", 0.into()),
        ("/store/failed_commit_count", 0.into()),
        ("/store/queued_operation_count", 0.into()),
        ("/store/queued_entry_count", 0.into()),
        ("/store/waiter_count", 0.into()),
        ("/rrd/queued_count", 0.into()),
        (
            "/tree/version",
            database::tree_version(&host.database()).into(),
        ),
        ("/tree/entry_count", 2.into()),
        ("/tree/used_bytes", 4096.into()),
        ("/paths/mount_dir", shown(&host.mount_dir())),
        ("/paths/database", shown(&host.database())),
        ("/paths/run_dir", shown(&host.run_dir())),
        ("/paths/pid_file", shown(&host.pid_file())),
        ("/paths/corosync_conf", shown(&host.corosync_conf())),
        ("/paths/control_socket", shown(&control_socket(&host))),
        ("/paths/ipc_service", host.service().into()),
    ] {
        check.equal(field, report.pointer(field), Some(&expected));
    }
    let uptime = number(&report["uptime_ms"]);
    check.holds(
        "up since the start",
        u128::from(uptime) <= daemon.age().as_millis(),
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for field in ["/started_secs", "/store/last_commit_secs"] {
        let secs = number(report.pointer(field).unwrap());
        check.holds(field, secs <= now && secs + 300 > now);
    }
    let process = &report["process"];
    check.holds("memory", number(&process["resident_bytes"]) > 1 << 20);
    let written = proc::written_bytes(daemon.pid());
    check.holds(
        "bytes written",
        number(&process["disk_written_bytes"]) <= written,
    );
    check.holds("threads", number(&process["thread_count"]) > 4);
    check.holds("descriptors", number(&process["descriptor_count"]) > 4);
    daemon.stop();
}

fn shown(path: &Path) -> Value {
    path.to_str().unwrap().into()
}

#[test]
fn what_was_written_is_told_in_bytes() {
    const SIZE: usize = 300_000;
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let before = report(&host);
    let file = File::create_new(host.path("f")).unwrap();
    file.write_all_at(&[1; SIZE], 0).unwrap();
    file.sync_all().unwrap();
    let after = report(&host);
    let grown = |field: &str| {
        let of = |report: &Value| number(report.pointer(field).unwrap());
        of(&after) - of(&before)
    };
    let size = SIZE as u64;
    let mut check = Check::new();
    check.holds("journaled", grown("/store/journaled_bytes") >= size);
    check.holds("journaled once", grown("/store/journaled_bytes") < 2 * size);
    check.holds("content", grown("/store/content_bytes") >= size);
    check.holds("commits", grown("/store/commit_count") >= 1);
    check.holds("rows", grown("/store/row_count") >= 1);
    check.equal("entries", grown("/tree/entry_count"), 1);
    check.equal(
        "blocks",
        grown("/tree/used_bytes"),
        size.div_ceil(4096) * 4096,
    );
    let log = fs::metadata(host.state_dir().join("config.db-wal")).unwrap();
    check.equal(
        "SQLite's log",
        number(&after["store"]["log_size_bytes"]),
        log.len(),
    );
    let journal = |part: u8| fs::metadata(host.run_dir().join(format!("memdb-journal.{part}")));
    let size_of_files: u64 = [0, 1]
        .into_iter()
        .filter_map(|part| journal(part).ok())
        .map(|data| data.len())
        .sum();
    check.equal(
        "files of the crash journal",
        number(&after["store"]["journal_allocated_bytes"]),
        size_of_files,
    );
    check.holds(
        "the crash journal fits in it",
        number(&after["store"]["journal_size_bytes"]) <= size_of_files,
    );
    drop((check, file));
    daemon.stop();
}

#[test]
fn the_user_who_keeps_most_memory_by_open_files_is_named() {
    const SIZE: u64 = 100_000;
    let host = Host::new();
    let daemon = host.start();
    let before = report(&host);
    assert_eq!(before["open"]["bytes"], 0);
    assert_eq!(before["open"]["top_uid"], Value::Null);
    let as_user = || {
        fs::write(host.path("f"), vec![b'x'; 100_000]).unwrap();
        let path = host.path("f");
        let open = Identity::www_data().run(move || File::open(path)).unwrap();
        fs::remove_file(host.path("f")).unwrap();
        open
    };
    let open = [as_user(), as_user()];
    fs::write(host.path("g"), vec![b'x'; 100_000]).unwrap();
    let of_root = File::open(host.path("g")).unwrap();
    fs::remove_file(host.path("g")).unwrap();
    let uid = Identity::www_data().uid;
    let kept = report_when(&host, "all files to be open", |report| {
        report["open"]["bytes"] == 3 * SIZE
    });
    assert_eq!(kept["open"]["top_uid"], uid);
    assert_eq!(kept["open"]["top_bytes"], 2 * SIZE);
    let text = ask(&host, ["status"]).expect(HEALTHY);
    let line = format!(
        "\nopen       292 KiB kept for open files and listings, 195 KiB of it for uid {uid}\n"
    );
    assert!(text.contains(&line), "{text}");
    drop((open, of_root));
    report_when(&host, "the files to be closed", |report| {
        report["open"]["bytes"] == 0
    });
    daemon.stop();
}

/// A row of numbers that are what they claim to be.
fn assert_sound(row: &Value) {
    let latency = &row["latency"];
    let of = |name: &str| number(&latency[name]);
    let count = number(&row["count"]);
    let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns"].map(of);
    assert!(percentiles.is_sorted() && percentiles[0] > 0, "{row:#}");
    let max = of("max_ns");
    // Percentiles are upper bounds of buckets.
    assert!(percentiles[0] <= max + max / 8 + 16, "{row:#}");
    assert!(
        max <= of("sum_ns") && of("sum_ns") <= max * count,
        "{row:#}"
    );
    let below: Vec<(u64, u64)> = latency["below"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (number(&step["ns"]), number(&step["count"])))
        .collect();
    assert!(below.len() > 5 && below.is_sorted(), "{row:#}");
    assert!(below.iter().all(|(_, below)| *below <= count), "{row:#}");
    let median = below.iter().find(|(_, below)| below * 2 >= count);
    let above = median.is_none_or(|(ns, _)| percentiles[0] <= ns + ns / 8 + 16);
    assert!(above, "{row:#}");
    let errors = row["errors"].as_object().unwrap();
    assert!(errors.values().map(number).sum::<u64>() <= count, "{row:#}");
}

#[test]
fn requests_of_the_kernel_are_counted_and_timed() {
    const FILES: u64 = 7;
    const WRITES: u64 = 5;
    let host = Host::new();
    let daemon = host.start();
    let before = report(&host);
    fs::create_dir(host.path("d")).unwrap();
    for number in 0..FILES {
        let file = File::create_new(host.path(format!("d/{number}"))).unwrap();
        for round in 0..WRITES {
            file.write_all_at(&[1; 100], round * 100).unwrap();
        }
    }
    fs::rename(host.path("d/0"), host.path("d/moved")).unwrap();
    for number in 1..FILES {
        fs::remove_file(host.path(format!("d/{number}"))).unwrap();
    }
    fs::remove_dir(host.path("d")).unwrap_err();
    for _ in 0..3 {
        fs::metadata(host.path("missing")).unwrap_err();
    }
    let file = File::options()
        .write(true)
        .open(host.path("d/moved"))
        .unwrap();
    let error = file.write_at(b"x", 1 << 20).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EFBIG as i32));
    drop(file);
    let expected = [
        ("mkdir", 1),
        ("create", FILES),
        ("write", FILES * WRITES + 1),
        ("rename", 1),
        ("unlink", FILES - 1),
        ("rmdir", 1),
        ("release", FILES + 1),
    ];
    let grown =
        |report: &Value, name: &str| count(report, "fuse", name) - count(&before, "fuse", name);
    let is_counted = |report: &Value| {
        expected
            .iter()
            .all(|(name, count)| grown(report, name) >= *count)
    };
    // A request is counted when it has its answer, and closes have none that anybody waits for.
    let after = report_when(&host, "every request to be counted", is_counted);
    let mut check = Check::new();
    for (name, count) in expected {
        check.equal(name, grown(&after, name), count);
    }
    let errors = |name: &str, errno: &str| {
        let row = operation(&after, "fuse", name).unwrap();
        row["errors"].get(errno).map_or(0, number)
    };
    check.equal("too large", errors("write", "EFBIG"), 1);
    check.equal("not empty", errors("rmdir", "ENOTEMPTY"), 1);
    check.holds("missing", errors("lookup", "ENOENT") >= 3);
    drop(check);
    let rows = after["fuse"].as_array().unwrap();
    rows.iter().for_each(assert_sound);
    for name in ["write", "create", "rename"] {
        assert_eq!(operation(&after, "fuse", name).unwrap()["in_flight"], 0);
    }
    assert!(is_stored(&report_when(
        &host,
        "the store to be idle",
        is_stored
    )));
    daemon.stop();
}

#[test]
fn requests_of_ipc_clients_are_counted_and_timed() {
    let host = Host::new();
    let daemon = host.start();
    assert_eq!(report(&host)["ipc"], Value::Array(Vec::new()));
    let mut client = host.ipc();
    for _ in 0..20 {
        client.version().unwrap();
    }
    for _ in 0..3 {
        let missing = client.config("missing");
        assert_eq!(missing, Err(IpcError::Refused(Errno::ENOENT)));
    }
    client.set_status("key", b"value\0").unwrap();
    client.status("key", "").unwrap();
    client.request(1000, &[]).unwrap_err();
    let expected = [
        ("version", 20, None),
        ("get-config", 3, Some("ENOENT")),
        ("set-status", 1, None),
        ("get-status", 1, None),
        ("unknown", 1, Some("ECHRNG")),
    ];
    let after = report_when(&host, "every request to be counted", |report| {
        expected
            .iter()
            .all(|(name, expected, _)| count(report, "ipc", name) >= *expected)
    });
    let mut check = Check::new();
    check.equal(
        "kinds",
        after["ipc"].as_array().unwrap().len(),
        expected.len(),
    );
    for (name, count, errno) in expected {
        let row = operation(&after, "ipc", name).unwrap();
        assert_sound(row);
        check.equal(name, number(&row["count"]), count);
        check.equal(name, number(&row["in_flight"]), 0);
        let errors = errno.map_or_else(
            || serde_json::json!({}),
            |errno| serde_json::json!({ errno: count }),
        );
        check.equal(name, &row["errors"], &errors);
    }
    drop(check);
    daemon.stop();
}

/// A small disk under the state directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn below(host: &Host) -> Self {
        fs::create_dir_all(host.state_dir()).unwrap();
        let disk = Self(host.state_dir());
        disk.mount(MsFlags::empty(), "size=2m");
        disk
    }

    fn mount(&self, flags: MsFlags, size: &str) {
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), flags, Some(size)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_database_that_cannot_be_written_is_told_until_it_can_be() {
    let host = Host::with_run_directory_in_ram();
    let disk = SmallDisk::below(&host);
    // A history would have a problem of its own on this disk.
    let daemon = host.start_with(["-f", "-l", "--history", "off"]);
    // The crash journal takes 64 MiB while the database cannot be written.
    let refused = (0..800)
        .find_map(|number| fs::write(host.path(format!("f{number}")), vec![1; 100_000]).err());
    assert!(refused.is_some(), "80 MB were taken on a disk of 2 MB");
    let failed = report(&host);
    assert_eq!(failed["store"]["is_failed"], true);
    assert_eq!(failed["problems"][0]["code"], "store-failed");
    assert!(failed["store"]["failure"].is_string(), "{failed:#}");
    assert!(number(&failed["store"]["failed_commit_count"]) > 0);
    let text = ask(&host, ["status"]).expect(DEGRADED);
    assert!(
        text.starts_with("pmxcfs     node1: DEGRADED, 1 problem\n"),
        "{text}"
    );
    assert!(
        text.contains("! store-failed: the database cannot be written"),
        "{text}"
    );
    let metrics = ask(&host, ["metrics"]).expect(HEALTHY);
    for line in [
        "pmxcfs_healthy 0",
        "pmxcfs_store_failed 1",
        "pmxcfs_problems{code=\"store-failed\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    disk.mount(MsFlags::MS_REMOUNT, "size=256m");
    report_when(&host, "the store to work again", |report| {
        report["problems"] == Value::Array(Vec::new())
    });
    ask(&host, ["status"]).expect(HEALTHY);
    daemon.stop();
    drop(disk);
}

#[test]
fn a_database_that_somebody_else_holds_is_told_until_it_is_free() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let mut session = Command::new("sqlite3")
        .arg(host.database())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = session.stdin.take().unwrap();
    writeln!(input, ".timeout 5000\nBEGIN IMMEDIATE;\nSELECT 'holding';").unwrap();
    let mut line = String::new();
    BufReader::new(session.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "holding\n");
    fs::write(host.path("f"), "taken all the same").unwrap();
    let held = report_when(&host, "the other process to be told of", |report| {
        report["problems"][0]["code"] == "database-held"
    });
    assert!(number(&held["store"]["queued_operation_count"]) >= 1);
    assert!(number(&held["store"]["journal_size_bytes"]) > 0);
    assert_eq!(held["store"]["is_failed"], false);
    ask(&host, ["status"]).expect(DEGRADED);
    writeln!(input, "ROLLBACK;\n.quit").unwrap();
    assert!(session.wait().unwrap().success());
    report_when(&host, "the store to catch up", |report| {
        is_stored(report) && report["problems"] == Value::Array(Vec::new())
    });
    daemon.stop();
}

#[test]
fn after_a_flush_the_database_holds_everything() {
    let host = Host::new();
    let daemon = host.start();
    for round in 0..20 {
        let name = format!("f{round}");
        fs::write(host.path(&name), "content").unwrap();
        ask(&host, ["flush"]).expect(HEALTHY);
        let rows = Command::new("sqlite3")
            .arg(host.database())
            .arg(format!("SELECT data FROM tree WHERE name='{name}'"))
            .output()
            .unwrap();
        assert_eq!(rows.stdout, b"content\n", "{rows:?}");
    }
    assert_eq!(
        ask(&host, ["ack"]).expect(HEALTHY),
        "there is nothing to acknowledge\n"
    );
    daemon.stop();
    let complaint = ask(&host, ["flush"]).complaint();
    assert!(complaint.contains("is pmxcfs running?"), "{complaint}");
}
