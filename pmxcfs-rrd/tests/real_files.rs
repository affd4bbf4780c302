//! The writer with real files and a real rrdcached.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pmxcfs_rrd::{RrdStats, RrdWriter};
use support::{Site, deadline, dump, info, last_update, run, wait_until_written};

/// A day long past: new files then start one step before their first value, whenever the test runs.
const START: i64 = 1_700_000_040;

/// Keys of all schemas and generations, and the file of each.
const KEYS: [(&str, &str); 5] = [
    ("pve2-node/n1", "pve-node-9.0/n1"),
    ("pve-node-9.0/n2", "pve-node-9.0/n2"),
    ("pve-vm-9.7/100", "pve-vm-9.0/100"),
    (
        "pve-storage-9.0/n1/local lvm",
        "pve-storage-9.0/n1/local lvm",
    ),
    ("pve2-storage/n2/a\\b", "pve-storage-9.0/n2/a\\b"),
];

/// A value for one of the keys, different for each minute.
fn value(key: &str, minute: i64) -> String {
    let time = START + 60 * minute;
    let columns = |count: i64| -> String {
        (1..=count)
            .map(|column| match (column + minute) % 7 {
                0 => ":U".to_owned(),
                _ => format!(":{}", 1000 * column + 17 * minute),
            })
            .collect()
    };
    let text = match key.split('/').next() {
        Some("pve2-node") => format!("99:0:{time}{}", columns(12)),
        Some("pve-node-9.0") => format!("99:0:{time}{}", columns(19)),
        Some("pve-vm-9.7") => format!("99:name:running:0:{time}{}", columns(20)),
        _ => format!("{time}{}", columns(2)),
    };
    format!("{text}\0")
}

fn submit_minutes(writer: &RrdWriter, minutes: std::ops::Range<i64>) {
    for minute in minutes {
        for (key, _) in KEYS {
            writer.submit(key.as_bytes(), value(key, minute).as_bytes());
        }
    }
    wait_until_written(writer);
}

/// Values that are in the archive of single steps: rows by their time.
fn known_rows(file: &Path) -> BTreeMap<i64, String> {
    let end = START + 86_400;
    let output = run(Command::new("rrdtool")
        .arg("fetch")
        .arg(file)
        .args(["AVERAGE", "-r", "60"])
        .args(["-s", &START.to_string(), "-e", &end.to_string()]));
    output
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(_, row)| row.split_whitespace().any(|value| !value.ends_with("nan")))
        .map(|(time, row)| (time.trim().parse().expect("a time"), row.to_owned()))
        .collect()
}

#[test]
fn both_ways_leave_the_same_files() {
    let (cached, direct) = (Site::new(), Site::new());
    let rrdcached = cached.rrdcached();
    let (cached_writer, direct_writer) = (cached.writer(), direct.writer());
    submit_minutes(&cached_writer, 0..90);
    submit_minutes(&direct_writer, 0..90);

    let sample_count = 90 * u64::try_from(KEYS.len()).unwrap();
    let none = RrdStats::default();
    let stats = cached_writer.stats();
    assert_eq!(
        stats,
        RrdStats {
            rrdcached_count: sample_count,
            ..none
        }
    );
    let stats = direct_writer.stats();
    assert_eq!(
        stats,
        RrdStats {
            direct_count: sample_count,
            ..none
        }
    );

    for (_, file) in KEYS {
        let (cached, direct) = (cached.db().join(file), direct.db().join(file));
        rrdcached.flush(&cached);
        assert_eq!(last_update(&direct), START + 60 * 89);
        assert!(known_rows(&direct).len() > 80, "{file}");
        assert_eq!(dump(&cached), dump(&direct), "{file}");
        assert_eq!(info(&cached), info(&direct), "{file}");
    }
    assert_eq!(cached_writer.stop(deadline()), 0);
    assert_eq!(direct_writer.stop(deadline()), 0);
}

#[test]
fn values_are_written_directly_while_rrdcached_is_dead() {
    let site = Site::new();
    let writer = site.writer();
    let batch = 10 * u64::try_from(KEYS.len()).unwrap();

    let mut rrdcached = site.rrdcached();
    submit_minutes(&writer, 0..10);
    for (_, file) in KEYS {
        rrdcached.flush(&site.db().join(file));
    }
    submit_minutes(&writer, 10..20);
    assert_eq!(writer.stats().rrdcached_count, 2 * batch);

    // Takes the second ten minutes with it, which it had not written.
    rrdcached.kill();
    submit_minutes(&writer, 20..30);
    assert_eq!(writer.stats().direct_count, batch);

    let rrdcached = site.rrdcached();
    submit_minutes(&writer, 30..40);
    let stats = writer.stats();
    assert_eq!(stats.rrdcached_count, 3 * batch, "back without a restart");
    assert_eq!((stats.direct_count, stats.lost_count), (batch, 0));

    for (_, file) in KEYS {
        let path = site.db().join(file);
        assert_eq!(
            last_update(&path),
            START + 60 * 29,
            "direct writes are there"
        );
        rrdcached.flush(&path);
        assert_eq!(last_update(&path), START + 60 * 39);
        let rows = known_rows(&path);
        for minute in (1..10).chain(21..40) {
            let time = START + 60 * minute;
            assert!(
                rows.contains_key(&time),
                "{file} has no row for minute {minute}"
            );
        }
    }
}

#[test]
fn a_refused_value_is_not_written_behind_the_back_of_rrdcached() {
    let site = Site::new();
    let rrdcached = site.rrdcached();
    let writer = site.writer();
    let key = b"pve-storage-9.0/n1/local";
    let values: [&[u8]; 4] = [
        b"1700000040:1:2\0",
        b"1700000040:3:4\0",
        b"garbage:3:4\0",
        b"1700000100:5:6\0",
    ];
    for value in values {
        writer.submit(key, value);
    }
    wait_until_written(&writer);
    let stats = writer.stats();
    assert_eq!((stats.rrdcached_count, stats.lost_count), (2, 2));
    assert_eq!(stats.direct_count, 0);
    let file = site.db().join("pve-storage-9.0/n1/local");
    rrdcached.flush(&file);
    assert_eq!(last_update(&file), 1_700_000_100);
}

#[test]
fn a_wrong_count_does_not_cost_the_good_values_behind_it() {
    let site = Site::new();
    let rrdcached = site.rrdcached();
    let writer = site.writer();
    let key = b"pve-storage-9.0/n1/local";
    let values: [&[u8]; 3] = [b"1700000040:1:2\0", b"1700000100:1\0", b"1700000160:5:6\0"];
    for value in values {
        writer.submit(key, value);
    }
    wait_until_written(&writer);
    let file = site.db().join("pve-storage-9.0/n1/local");
    rrdcached.flush(&file);
    assert_eq!(last_update(&file), 1_700_000_160);
}

#[test]
fn a_frozen_rrdcached_costs_one_timeout() {
    let site = Site::new();
    let rrdcached = site.rrdcached();
    let mut config = site.config();
    config.rrdcached_timeout = Duration::from_secs(1);
    let writer = RrdWriter::start(config).expect("a thread");
    submit_minutes(&writer, 0..1);
    rrdcached.signal("STOP");
    let start = Instant::now();
    submit_minutes(&writer, 1..60);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let stats = writer.stats();
    let key_count = u64::try_from(KEYS.len()).unwrap();
    // A thread of rrdcached may take one more value before the signal stops it.
    assert!(stats.direct_count > 58 * key_count, "{stats:?}");
    assert_eq!(stats.direct_count + stats.rrdcached_count, 60 * key_count);
    assert_eq!(writer.stop(deadline()), 0);
    assert_eq!(last_update(&site.db().join(KEYS[0].1)), START + 60 * 59);
    rrdcached.signal("CONT");
}

#[test]
fn modes_do_not_depend_on_the_umask_and_files_are_not_replaced() {
    let site = Site::new();
    let db = site.db();
    fs::create_dir(db.join("pve-storage-9.0")).unwrap();
    fs::write(db.join("pve-storage-9.0/n1"), "in the way of a directory").unwrap();
    fs::create_dir(db.join("pve-node-9.0")).unwrap();
    fs::create_dir(db.join("pve-node-9.0/n1")).unwrap();
    let writer = site.writer();
    submit_minutes(&writer, 0..1);
    assert_eq!(writer.stats().direct_count, 3);
    assert_eq!(writer.stats().lost_count, 2);
    assert_eq!(
        fs::read(db.join("pve-storage-9.0/n1")).unwrap(),
        b"in the way of a directory"
    );
    assert!(db.join("pve-node-9.0/n1").is_dir());
}

#[test]
fn a_missing_top_directory_is_not_made() {
    let site = Site::new();
    fs::remove_dir(site.db()).unwrap();
    let writer = site.writer();
    submit_minutes(&writer, 0..2);
    assert!(!site.db().exists());
    assert_eq!(
        writer.stats().lost_count,
        2 * u64::try_from(KEYS.len()).unwrap()
    );
}

/// Runs this binary again under a limit of the file size, which fails librrd's writes like a full disk.
#[test]
fn a_file_that_does_not_fit_leaves_nothing_behind() {
    let site = Site::new();
    let binary = std::env::current_exe().unwrap();
    let script = "umask 077; trap '' XFSZ; ulimit -f 800; exec \"$0\" --exact child_under_a_limit --nocapture";
    run(Command::new("sh")
        .args(["-c", script])
        .arg(binary)
        .env("PMXCFS_RRD_SITE", site.db()));
    let names = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(site.db().join(directory)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(
        names("pve-node-9.0"),
        [""; 0],
        "neither files nor temporary ones"
    );
    assert_eq!(names("pve-storage-9.0/n2"), ["a\\b"]);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(site.db().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("pve-storage-9.0"), 0o750, "in spite of the umask");
    assert_eq!(mode("pve-storage-9.0/n2"), 0o750);
    assert_eq!(mode("pve-storage-9.0/n2/a\\b"), 0o644);
}

/// The child of the test above. Alone it runs without a limit.
#[test]
fn child_under_a_limit() {
    let site = Site::new();
    let mut config = site.config();
    let limited = std::env::var_os("PMXCFS_RRD_SITE");
    let is_limited = limited.is_some();
    config.directory = limited.map_or(site.db(), Into::into);
    let writer = RrdWriter::start(config).expect("a thread");
    submit_minutes(&writer, 0..2);
    let stats = writer.stats();
    let expected = if is_limited { (4, 6) } else { (10, 0) };
    assert_eq!(
        (stats.direct_count, stats.lost_count),
        expected,
        "storages fit"
    );
}

#[test]
fn submitting_never_waits_for_a_stuck_writer() {
    let site = Site::new();
    // Takes the connection and the updates, and never answers.
    let _listener = UnixListener::bind(site.socket()).unwrap();
    let mut config = site.config();
    config.rrdcached_timeout = Duration::from_secs(600);
    config.max_queued_samples = 1000;
    let writer = RrdWriter::start(config).expect("a thread");
    let start = Instant::now();
    for minute in 0..20_000 {
        writer.submit(KEYS[0].0.as_bytes(), value(KEYS[0].0, minute).as_bytes());
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let stats = writer.stats();
    let batch_size = stats.queued_count - 1000;
    assert!((1..=64).contains(&batch_size), "{stats:?}");
    assert!(stats.dropped_count >= 18_000, "{stats:?}");
    let unwritten = writer.stop(Instant::now() + Duration::from_millis(50));
    assert_eq!(unwritten as u64, 1000 + batch_size);
    writer.submit(KEYS[0].0.as_bytes(), b"1:2");
    let queued_count = writer.stats().queued_count;
    assert_eq!(queued_count, 1000 + batch_size, "no more after stop");
}

#[test]
fn stopping_writes_what_is_queued() {
    let site = Site::new();
    let writer = site.writer();
    for minute in 0..500 {
        writer.submit(KEYS[3].0.as_bytes(), value(KEYS[3].0, minute).as_bytes());
    }
    assert_eq!(writer.stop(deadline()), 0);
    assert_eq!(writer.stop(deadline()), 0, "again");
    assert_eq!(last_update(&site.db().join(KEYS[3].1)), START + 60 * 499);
}
