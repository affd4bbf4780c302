//! RRD values from the IPC request to the file, by way of a real rrdcached.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use integration_tests::{Check, Host, IpcClient, wait};
use nix::sys::signal::Signal;

use crate::requests::{ask, set};
use crate::rrd_tools::{LIMIT, Place, dump, ends_at, info, rrdtool};

/// A day long past: a new file then starts one step before its first value, whenever the test runs.
const START: i64 = 1_700_000_040;
const MINUTES: i64 = 40;

/// Data sources as `NAME:TYPE` in the order of the columns.
const NODE: &str = "loadavg maxcpu cpu iowait memtotal memused swaptotal swapused roottotal rootused netin:D netout:D \
                    memavailable arcsize pressurecpusome pressureiosome pressureiofull pressurememorysome \
                    pressurememoryfull";
const VM: &str = "maxcpu cpu maxmem mem maxdisk disk netin:D netout:D diskread:D diskwrite:D memhost pressurecpusome \
                  pressurecpufull pressureiosome pressureiofull pressurememorysome pressurememoryfull";
const STORAGE: &str = "total used";

/// A key, the text in front of the time, the columns that it sends, those that are kept, its file and the file's sources.
struct Series {
    key: &'static str,
    live: &'static str,
    sent_count: i64,
    kept_count: i64,
    file: &'static str,
    sources: &'static str,
}

const SERIES: [Series; 8] = [
    series("pve2-node/n2", "77:0:", 12, 12, "pve-node-9.0/n2", NODE),
    series("pve-node-9.0/n9", "77:0:", 19, 19, "pve-node-9.0/n9", NODE),
    series(
        "pve-node-10.4/n10",
        "77:0:",
        23,
        19,
        "pve-node-9.0/n10",
        NODE,
    ),
    series(
        "pve2.3-vm/102",
        "77:name:running:0:",
        10,
        10,
        "pve-vm-9.0/102",
        VM,
    ),
    series(
        "pve-vm-9.0/109",
        "77:name:running:0:",
        17,
        17,
        "pve-vm-9.0/109",
        VM,
    ),
    series(
        "pve-vm-9.1/110",
        "77:name:running:0:",
        18,
        17,
        "pve-vm-9.0/110",
        VM,
    ),
    series(
        "pve2-storage/n2/local",
        "",
        2,
        2,
        "pve-storage-9.0/n2/local",
        STORAGE,
    ),
    series(
        "pve-storage-9.7/n9/a b",
        "",
        5,
        2,
        "pve-storage-9.0/n9/a b",
        STORAGE,
    ),
];

const fn series(
    key: &'static str,
    live: &'static str,
    sent_count: i64,
    kept_count: i64,
    file: &'static str,
    sources: &'static str,
) -> Series {
    Series {
        key,
        live,
        sent_count,
        kept_count,
        file,
        sources,
    }
}

impl Series {
    fn columns(minute: i64, count: i64) -> String {
        (1..=count).fold(String::new(), |mut text, column| {
            match (column + minute) % 7 {
                0 => text.push_str(":U"),
                _ => write!(text, ":{}", 1000 * column + 17 * minute).unwrap(),
            }
            text
        })
    }

    /// What a node sends.
    fn value(&self, minute: i64) -> String {
        let (time, columns) = (START + 60 * minute, Self::columns(minute, self.sent_count));
        format!("{}{time}{columns}\0", self.live)
    }

    /// What reaches the file.
    fn update(&self, minute: i64) -> String {
        let missing =
            self.sources.split_whitespace().count() - usize::try_from(self.kept_count).unwrap();
        let (time, columns) = (START + 60 * minute, Self::columns(minute, self.kept_count));
        format!("{time}{columns}{}", ":U".repeat(missing))
    }

    fn set(&self, client: &mut IpcClient, minute: i64) {
        let key = format!("rrd/{}", self.key);
        client
            .set_status(&key, self.value(minute).as_bytes())
            .unwrap();
    }

    /// The file that `rrdtool` makes of the same values.
    fn reference(&self, file: &Path, minutes: impl Iterator<Item = i64>) {
        let name = file.to_str().unwrap();
        let start = (START - 60).to_string();
        let mut arguments: Vec<String> = ["create", name, "--start", &start, "--step", "60"]
            .map(String::from)
            .to_vec();
        for source in self.sources.split_whitespace() {
            let (name, kind) = source
                .split_once(':')
                .map_or((source, "GAUGE"), |(name, _)| (name, "DERIVE"));
            arguments.push(format!("DS:{name}:{kind}:120:0:U"));
        }
        for function in ["AVERAGE", "MAX"] {
            for (steps, rows) in [(1, 1440), (30, 1440), (360, 1440), (10080, 570)] {
                arguments.push(format!("RRA:{function}:0.5:{steps}:{rows}"));
            }
        }
        rrdtool(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let updates: Vec<String> = minutes.map(|minute| self.update(minute)).collect();
        let mut arguments = vec!["update", name];
        arguments.extend(updates.iter().map(String::as_str));
        rrdtool(&arguments);
    }
}

#[test]
fn every_kind_of_key_makes_the_file_that_rrdtool_makes() {
    let host = Host::new();
    let place = Place::new(&host);
    let rrdcached = place.rrdcached();
    let daemon = host.start_with(place.options());
    let mut client = host.ipc();
    for minute in 0..MINUTES {
        for series in &SERIES {
            series.set(&mut client, minute);
        }
    }
    let mut files = SERIES.map(|series| series.file);
    files.sort_unstable();
    place.await_files(&files);
    let mut check = Check::new();
    for series in &SERIES {
        let (file, reference) = (place.file(series.file), host.root().join("reference"));
        let last = START + 60 * (MINUTES - 1);
        wait::until("the last value", LIMIT, || {
            rrdcached.flush(&file);
            ends_at(&file, last).then_some(())
        });
        series.reference(&reference, 0..MINUTES);
        check.equal(series.key, info(&file), info(&reference));
        check.holds(series.key, dump(&file) == dump(&reference));
        fs::remove_file(&reference).unwrap();
    }
    drop(check);
    let mut lines: Vec<String> = SERIES
        .iter()
        .map(|series| {
            let value = series.value(MINUTES - 1);
            format!("{}:{}\n", series.key, value.trim_end_matches('\0'))
        })
        .collect();
    lines.sort();
    let text = lines.concat();
    wait::until("the document with the last values", LIMIT, || {
        (fs::read(host.path(".rrd")).unwrap() == text.as_bytes()).then_some(())
    });
    for _ in 0..3 {
        let answer = ask(&mut client, 10, &[]).unwrap();
        assert!(
            answer == [text.as_bytes(), b"\0"].concat(),
            "always one NUL at the end"
        );
    }
    daemon.stop();
}

#[test]
fn rrdcached_may_die_and_come_back() {
    let host = Host::new();
    let place = Place::new(&host);
    let daemon = host.start_with(place.options());
    let mut client = host.ipc();
    let series = &SERIES[6];
    let file = place.file(series.file);
    let time = |minute: i64| START + 60 * minute;
    let await_last = |minute: i64| {
        wait::until("the value in the file", LIMIT, || {
            (file.exists() && ends_at(&file, time(minute))).then_some(())
        });
    };
    series.set(&mut client, 0);
    await_last(0);
    for cycle in 0..2 {
        let first = 1 + 3 * cycle;
        let rrdcached = place.rrdcached();
        series.set(&mut client, first);
        wait::until("rrdcached to have the value", LIMIT, || {
            rrdcached.flush(&file);
            ends_at(&file, time(first)).then_some(())
        });
        series.set(&mut client, first + 1);
        wait::until("rrdcached to have the next one", LIMIT, || {
            rrdcached.flush(&file);
            ends_at(&file, time(first + 1)).then_some(())
        });
        rrdcached.kill();
        series.set(&mut client, first + 2);
        await_last(first + 2);
    }
    let reference = host.root().join("reference");
    series.reference(&reference, 0..7);
    assert!(dump(&file) == dump(&reference), "no value is missing");
    daemon.stop();
}

#[test]
fn nobody_waits_for_a_stuck_rrdcached() {
    /// What rrdcached may take to answer before files are written directly.
    const PATIENCE: Duration = Duration::from_secs(5);
    let host = Host::new();
    let place = Place::new(&host);
    let rrdcached = place.rrdcached();
    let daemon = host.start_with(place.options());
    let mut client = host.ipc();
    let series = &SERIES[6];
    series.set(&mut client, 0);
    place.await_files(&[series.file]);
    rrdcached.signal(Signal::SIGSTOP);
    let from = Instant::now();
    let mut longest = Duration::ZERO;
    for minute in 1..200 {
        let start = Instant::now();
        series.set(&mut client, minute);
        client.version().unwrap();
        longest = longest.max(start.elapsed());
    }
    assert!(
        longest < PATIENCE / 2 && from.elapsed() < PATIENCE,
        "{longest:?}, {:?}",
        from.elapsed()
    );
    let file = place.file(series.file);
    wait::until("the values to be written directly", LIMIT, || {
        ends_at(&file, START + 60 * 199).then_some(())
    });
    rrdcached.signal(Signal::SIGCONT);
    daemon.stop();
}

#[test]
fn keys_that_name_no_file_make_none() {
    let host = Host::new();
    let place = Place::new(&host);
    let daemon = host.start_with(place.options());
    let mut client = host.ipc();
    let value = format!("{START}:1:2\0");
    let long = [&b"rrd/pve-storage-9.0/n/"[..], &[b'x'; 250]].concat();
    let keys: [&[u8]; 14] = [
        b"rrd/",
        b"rrd/pve-storage-9.0",
        b"rrd/pve-storage-9.0/",
        b"rrd/pve-storage-9.0//s",
        b"rrd/pve-storage-9.0/n/",
        b"rrd/pve-storage-9.0/../escaped",
        b"rrd/pve-storage-9.0/./escaped",
        b"rrd/pve-storage-9.0/n/..",
        b"rrd/pve-storage-9.0/n/../../escaped",
        b"rrd/pve-storage-9.0/n/a\nb",
        b"rrd/pve-node-9.0/..",
        b"rrd/pve-vm-9.0/a/b",
        b"rrd/pve2-vm/100",
        b"rrd/../../escaped",
    ];
    for key in keys {
        let answer = ask(&mut client, 4, &set(key, value.as_bytes()));
        assert_eq!(answer, Ok(Vec::new()), "{}", key.escape_ascii());
    }
    for bad in [
        "",
        ":",
        "x",
        "1:2:3:4:5",
        "99999999999999999999:1:2",
        "-5:1:2",
        "U:U:U",
        "1:2:3\nQUIT\n",
    ] {
        let body = set(b"rrd/pve-storage-9.0/n/odd", format!("{bad}\0").as_bytes());
        assert_eq!(ask(&mut client, 4, &body), Ok(Vec::new()), "{bad:?}");
    }
    // Keys end at a NUL, and at the field's end.
    ask(
        &mut client,
        4,
        &set(b"rrd/pve-storage-9.0/n/s\0/../x", value.as_bytes()),
    )
    .unwrap();
    ask(&mut client, 4, &[&long[..256], value.as_bytes()].concat()).unwrap();
    let cut = format!("pve-storage-9.0/n/{}", "x".repeat(233));
    wait::until("the files of the sound keys", LIMIT, || {
        let files = place.files();
        (files.contains(&cut) && files.contains(&"pve-storage-9.0/n/s".to_owned())).then_some(())
    });
    let unexpected: Vec<String> = place
        .files()
        .into_iter()
        .filter(|file| {
            *file != cut && file != "pve-storage-9.0/n/s" && file != "pve-storage-9.0/n/odd"
        })
        .collect();
    assert_eq!(unexpected, Vec::<String>::new());
    assert!(!host.root().join("rrd/escaped").exists() && !host.root().join("escaped").exists());
    let shown = wait::until("all values in the document", LIMIT, || {
        let text = String::from_utf8(fs::read(host.path(".rrd")).unwrap()).unwrap();
        text.contains("xxx").then_some(text)
    });
    assert!(
        shown.contains("../../escaped:"),
        "refused keys are shown to readers all the same"
    );
    daemon.stop();
}

#[test]
fn without_a_directory_values_are_shown_and_the_log_says_why_once() {
    let host = Host::new();
    let place = Place::without_directory(&host);
    let daemon = host.start_with(place.options());
    let mut client = host.ipc();
    for minute in 0..50 {
        SERIES[6].set(&mut client, minute);
    }
    wait::until("a message", LIMIT, || {
        host.log().contains("cannot create RRD file").then_some(())
    });
    let line = format!(
        "{}:{}",
        SERIES[6].key,
        SERIES[6].value(49).trim_end_matches('\0')
    );
    wait::until("the value in the document", LIMIT, || {
        (fs::read(host.path(".rrd")).unwrap() == format!("{line}\n").as_bytes()).then_some(())
    });
    daemon.stop();
    assert_eq!(host.log().matches("cannot create RRD file").count(), 1);
    assert!(
        !place.directory.exists(),
        "the top directory is not the daemon's to make"
    );
}
