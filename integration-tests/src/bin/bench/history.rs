//! Measures the cost of the history of changes: a daemon with it beside one without, and the time of its answers.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::{Daemon, Host, daemon, proc};

use crate::against;
use crate::fleet;
use crate::pairs::Row;
use crate::report::{Report, median};
use crate::workload::{self, Workload};

const BAR_PERCENT: u32 = 97;
const WORKLOADS: [&str; 4] = ["create", "overwrite", "replace", "remove"];
const WRITER_COUNTS: [u32; 3] = [1, 4, 16];
const FOLLOWED_WRITER_COUNT: u32 = 4;
const FOLLOWER_COUNT: usize = 50;

/// An hour of three nodes: each writes the status of its guests every 5 s, the manager its own every 10 s.
const STATUS_ROUNDS: u32 = 3600 / 5;
const NODE_COUNT: u32 = 3;

const RECORD_COUNT: usize = 100_000;
const CHANGED_COUNT: usize = 10_000;
/// Changes between two looks whether the history has them: what does not fit into its queue would be missing.
const FLUSH_COUNT: usize = 1000;
const DIRECTORY_SIZE: usize = 500;

const MEMORY_FILE_COUNT: usize = 9000;
const ROUND_COUNT: usize = 5;
const SETTLE_TIME: Duration = Duration::from_secs(8);
const MEGA: f64 = 1_000_000.0;

/// Measures everything and reports it.
pub(crate) fn run(report: &mut Report) -> io::Result<()> {
    report.line("\noperations per second with the history, against the same daemon without")?;
    rates(report, 0)?;
    report.line(&format!(
        "\nthe same with {FOLLOWER_COUNT} followers of the history, one of which is stopped"
    ))?;
    rates(report, FOLLOWER_COUNT)?;
    report.line("\nwhat it writes, keeps in memory, and takes for an answer")?;
    sequential(report)?;
    idle_cluster(report)?;
    memory(report)?;
    answers(report)
}

fn start(host: &Host, has_history: bool) -> Daemon<'_> {
    let switch = if has_history { "on" } else { "off" };
    host.start_with(["-f", "-l", "--history", switch])
}

/// Pairs hosts without and with a history.
fn rates(report: &mut Report, follower_count: usize) -> io::Result<()> {
    let hosts = [
        Host::with_run_directory_in_ram(),
        Host::with_run_directory_in_ram(),
    ];
    let daemons = [start(&hosts[0], false), start(&hosts[1], true)];
    for host in &hosts {
        workload::prepare(&host.mount_dir())?;
    }
    flush(&hosts[1])?;
    let writer_counts = match follower_count {
        0 => &WRITER_COUNTS[..],
        _ => &[FOLLOWED_WRITER_COUNT],
    };
    let result = followed(&hosts[1], follower_count, || {
        for workload in WORKLOADS.iter().filter_map(|name| workload::find(name)) {
            for &process_count in writer_counts {
                rate(report, workload, process_count, &hosts, daemons[1].pid())?;
            }
        }
        if follower_count > 0 {
            let begin = Instant::now();
            ask(&hosts[1], &["status", "--json"])?;
            let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
            report.below("status, with these followers", elapsed, 1000.0, "ms")?;
        }
        Ok(())
    });
    for daemon in daemons {
        daemon.stop();
    }
    result
}

fn rate(
    report: &mut Report,
    workload: &Workload,
    process_count: u32,
    hosts: &[Host; 2],
    pid: u32,
) -> io::Result<()> {
    let row = Row {
        operation: workload.operation,
        process_count,
        bar_percent: BAR_PERCENT,
    };
    let (recorder, daemon) = (Cell::new(0), Cell::new(0));
    against::measure(report, &row, hosts, |host| {
        let mount_dir = host.mount_dir();
        let mount_dir = mount_dir.to_str().ok_or(ErrorKind::InvalidInput)?;
        let before = processor_times(pid)?;
        let rate = fleet::rate(process_count, &["worker", workload.name, mount_dir]);
        if std::ptr::eq(host, &hosts[1]) {
            let after = processor_times(pid)?;
            recorder.set(recorder.get() + after.0 - before.0);
            daemon.set(daemon.get() + after.1 - before.1);
        }
        rate
    })?;
    let percent = 100.0 * mega(recorder.get()) / mega(daemon.get());
    report.line(&format!(
        "    of the daemon's processor time meanwhile, its thread `history` takes {percent:.1} %"
    ))
}

/// Processor time in ns of the thread `history` and of all threads.
fn processor_times(pid: u32) -> io::Result<(u64, u64)> {
    let (mut recorder, mut all) = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let times = fs::read_to_string(task.join("schedstat"))?;
        let time = times
            .split_whitespace()
            .next()
            .and_then(|time| time.parse::<u64>().ok())
            .ok_or(ErrorKind::InvalidData)?;
        all += time;
        if is_history(&task)? {
            recorder += time;
        }
    }
    Ok((recorder, all))
}

fn is_history(task: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(task.join("comm"))?.trim_end() == "history")
}

/// Runs `work` while so many clients follow; all but the first of them read.
fn followed(host: &Host, count: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mut followers = Vec::new();
    for _ in 0..count {
        let mut follower = UnixStream::connect(host.run_dir().join("ctl.sock"))?;
        follower.write_all(b"history {\"Follow\":{\"from\":null}}\n")?;
        let mut begin = [0; 3];
        follower.read_exact(&mut begin)?;
        follower.set_nonblocking(true)?;
        followers.push(follower);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while !is_over.load(Ordering::Relaxed) {
                for follower in followers.iter_mut().skip(1) {
                    while follower.read(&mut buffer).is_ok_and(|count| count > 0) {}
                }
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs a command that has to succeed, and gives its output.
fn ask(host: &Host, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new(daemon::control_program())
        .args(arguments)
        .arg("--root-dir")
        .arg(host.root())
        .arg("--run-dir")
        .arg(host.run_dir())
        .output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(io::Error::other(format!("{arguments:?}: {output:?}"))),
    }
}

/// Has the history written up to here.
fn flush(host: &Host) -> io::Result<()> {
    ask(host, &["history", "--limit", "1"]).map(drop)
}

fn sequential(report: &mut Report) -> io::Result<()> {
    let mut sizes = Vec::new();
    for _ in 0..ROUND_COUNT {
        let host = Host::with_run_directory_in_ram();
        let daemon = start(&host, true);
        flush(&host)?;
        let before = proc::written_bytes(daemon.pid());
        let mut file = fs::File::create(host.path("file"))?;
        for _ in 0..1000 {
            file.write_all(&[b'x'; 512])?;
        }
        file.sync_all()?;
        drop(file);
        flush(&host)?;
        sizes.push(mega(proc::written_bytes(daemon.pid()) - before));
        daemon.stop();
    }
    let what = "500 KiB in pieces of 512 bytes, its history included: written";
    report.below(what, median(&mut sizes), 6.0, "MB")
}

/// The history's thread alone is looked at: what the database takes varies more than that.
fn idle_cluster(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let daemon = start(&host, true);
    for node in 0..NODE_COUNT {
        fs::create_dir_all(host.path(format!("nodes/node{node}")))?;
    }
    fs::create_dir(host.path("ha"))?;
    flush(&host)?;
    let before = history_written(daemon.pid())?;
    for round in 0..STATUS_ROUNDS {
        for node in 0..NODE_COUNT {
            replace(&host, &format!("nodes/node{node}/lrm_status"), round)?;
        }
        if round % 2 == 0 {
            replace(&host, "ha/manager_status", round)?;
        }
        if round % 12 == 0 {
            // A minute is over.
            flush(&host)?;
        }
    }
    flush(&host)?;
    let written = history_written(daemon.pid())? - before;
    daemon.stop();
    let what = "an hour of status files of an idle HA cluster: history written";
    report.below(what, mega(written) * 1000.0, 64.0, "kB")
}

/// As the HA manager writes.
fn replace(host: &Host, path: &str, round: u32) -> io::Result<()> {
    let new = host.path(format!("{path}.tmp.{round}"));
    fs::write(
        &new,
        format!("{{\"timestamp\":{round},\"mode\":\"active\"}}"),
    )?;
    fs::rename(new, host.path(path))
}

/// Bytes that the thread `history` has caused to be written.
fn history_written(pid: u32) -> io::Result<u64> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if is_history(&task)? {
            let io = fs::read_to_string(task.join("io"))?;
            let line = io
                .lines()
                .find_map(|line| line.strip_prefix("write_bytes: "));
            let bytes = line.and_then(|bytes| bytes.parse().ok());
            return bytes.ok_or_else(|| ErrorKind::InvalidData.into());
        }
    }
    Err(ErrorKind::NotFound.into())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mega(number: u64) -> f64 {
    number as f64 / MEGA
}

fn memory(report: &mut Report) -> io::Result<()> {
    let mut differences = Vec::new();
    let hosts = [
        Host::with_run_directory_in_ram(),
        Host::with_run_directory_in_ram(),
    ];
    for (host, has_history) in hosts.iter().zip([false, true]) {
        let daemon = start(host, has_history);
        fill(host, MEMORY_FILE_COUNT, b'a', has_history)?;
        daemon.stop();
    }
    for _ in 0..ROUND_COUNT {
        let sizes = [false, true].map(|has_history| {
            let host = &hosts[usize::from(has_history)];
            let daemon = start(host, has_history);
            fill(host, FLUSH_COUNT, b'b', has_history)?;
            let size = settled(daemon.pid());
            daemon.stop();
            io::Result::Ok(size)
        });
        let [without, with] = sizes;
        differences.push(with? - without?);
    }
    let what = "resident memory more, 9000 files, 1000 of them written";
    report.below(what, median(&mut differences), 4.0, "MB")
}

/// Resident memory in MB some seconds later, when the daemon has given back what it does not need.
fn settled(pid: u32) -> f64 {
    let begin = Instant::now();
    let mut least = u64::MAX;
    while begin.elapsed() < SETTLE_TIME {
        least = least.min(proc::resident_bytes(pid));
        thread::park_timeout(Duration::from_millis(250));
    }
    mega(least)
}

/// Writes the first files, each of 2 KiB.
fn fill(host: &Host, count: usize, byte: u8, has_history: bool) -> io::Result<()> {
    for number in 0..count {
        let path = file(host, number)?;
        fs::write(path, [byte; 2048])?;
        if has_history && number % FLUSH_COUNT == FLUSH_COUNT - 1 {
            flush(host)?;
        }
    }
    Ok(())
}

fn file(host: &Host, number: usize) -> io::Result<std::path::PathBuf> {
    let directory = host.path(format!("d{}", number / DIRECTORY_SIZE));
    if number.is_multiple_of(DIRECTORY_SIZE) && !directory.exists() {
        fs::create_dir(&directory)?;
    }
    Ok(directory.join(format!("{number}.cfg")))
}

fn answers(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let daemon = start(&host, true);
    for number in 0..(RECORD_COUNT - CHANGED_COUNT) / 2 {
        let path = host.path(format!("{number}.tmp"));
        fs::File::create_new(&path)?;
        fs::remove_file(&path)?;
        if number.is_multiple_of(FLUSH_COUNT) {
            flush(&host)?;
        }
    }
    flush(&host)?;
    let newest = String::from_utf8(ask(&host, &["history", "--limit", "1", "--json"])?);
    let newest: serde_json::Value = serde_json::from_str(&newest.map_err(io::Error::other)?)?;
    let version = newest["version"].to_string();
    fill(&host, CHANGED_COUNT, b'c', true)?;
    let counted = ask(&host, &["history", "--json"])?;
    let count = counted.iter().filter(|byte| **byte == b'\n').count();
    report.line(&format!("  ({count} records)"))?;
    let time = |arguments: &[&str]| -> io::Result<f64> {
        let mut times = Vec::new();
        for _ in 0..ROUND_COUNT {
            let begin = Instant::now();
            ask(&host, arguments)?;
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(median(&mut times))
    };
    let path = ["history", "20000.tmp"];
    report.below(
        "history of a path, 100,000 records",
        time(&path)?,
        50.0,
        "ms",
    )?;
    let whole = ["diff", "--since", &version];
    let what = "diff of the whole tree, 10,000 changed entries";
    report.below(what, time(&whole)?, 1000.0, "ms")?;
    daemon.stop();
    Ok(())
}
