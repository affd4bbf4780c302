//! One writer: where the time of a write goes, by the system calls of everybody on its way.
//!
//! `perf` notes when each call begins and ends. A write is cut at those that mark its way. Noting them costs about a
//! microsecond each, so the whole takes longer than without. While the three hosts share few processors, much of it is waiting
//! for one: the first decile tells what the way itself takes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::{Cluster, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

use crate::latency;
use crate::report::line;

const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of the way, each from the end of the one before.
const PARTS: [&str; 9] = [
    "write(2) .. fuser-N has the request",
    ".. multicast: names, rules, queue, encoding",
    ".. corosync tells of the delivery: its ring",
    ".. services wakes up",
    ".. journal: dispatch, rules, tree, record",
    ".. journal written",
    ".. reply",
    ".. reply written",
    ".. the program goes on",
];

/// A system call's begin or end.
struct Call<'a> {
    time_us: f64,
    program: &'a str,
    process: u32,
    thread: u32,
    is_end: bool,
    number: i64,
    /// At the end.
    result: i64,
}

pub(crate) fn measure() -> bool {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    let cluster = Cluster::running(3);
    let host = cluster.host(1);
    let (daemon, corosync) = (host.daemon_pid(), host.corosync_pid());
    let Ok(mut recorder) = record(&file, [daemon, corosync, std::process::id()]) else {
        return line("where a write's time goes", "no perf here", "none", true);
    };
    wait::until("perf to begin", PATIENCE, || {
        file.metadata().ok().filter(|data| data.len() > 0)
    });
    host.inside(|| (0..ROUNDS).for_each(|_| drop(latency::overwrites())));
    let recorder_pid = Pid::from_raw(recorder.id().cast_signed());
    kill(recorder_pid, Signal::SIGINT).expect("perf records until it is told");
    recorder.wait().expect("perf ends");
    let text = text_of(&file);
    let calls: Vec<Call<'_>> = text.lines().filter_map(parse).collect();
    let ways = ways(&calls, daemon, corosync);
    print(&ways);
    !ways.is_empty()
}

fn record(file: &Path, processes: [u32; 3]) -> std::io::Result<Child> {
    let processes = processes.map(|process| process.to_string()).join(",");
    Command::new("perf")
        .args(["record", "-q", "-m", "16M", "-p", &processes, "-o"])
        .arg(file)
        .args(["-e", "raw_syscalls:sys_enter,raw_syscalls:sys_exit"])
        .stderr(Stdio::null())
        .spawn()
}

fn text_of(file: &Path) -> String {
    let fields = "comm,pid,tid,time,event,trace";
    let output = Command::new("perf")
        .args(["script", "--ns", "-F", fields, "-i"])
        .arg(file)
        .output()
        .expect("perf has just run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `fuser-0 12/34 5.6: raw_syscalls:sys_exit: NR 0 = 4176`
fn parse(line: &str) -> Option<Call<'_>> {
    let mut words = line.split_whitespace();
    let program = words.next()?;
    let (process, thread) = words.next()?.split_once('/')?;
    let secs: f64 = words.next()?.trim_end_matches(':').parse().ok()?;
    let is_end = words.next()?.contains("sys_exit");
    let number = words.nth(1)?.parse().ok()?;
    let result = words.nth(1).filter(|_| is_end);
    Some(Call {
        time_us: secs * 1e6,
        program,
        process: process.parse().ok()?,
        thread: thread.parse().ok()?,
        is_end,
        number,
        result: result.and_then(|result| result.parse().ok()).unwrap_or(0),
    })
}

/// The times of all parts of each write that can be followed.
fn ways(calls: &[Call<'_>], daemon: u32, corosync: u32) -> Vec<[f64; PARTS.len()]> {
    let writer = std::process::id();
    let is_write = |call: &Call<'_>| call.process == writer && call.number == libc::SYS_pwrite64;
    let writes: Vec<usize> = (0..calls.len())
        .filter(|at| is_write(&calls[*at]))
        .collect();
    let pairs = writes
        .windows(2)
        .filter(|pair| !calls[pair[0]].is_end && calls[pair[1]].is_end);
    let ways = pairs.filter_map(|pair| way(&calls[pair[0]..=pair[1]], daemon, corosync));
    ways.collect()
}

fn way(calls: &[Call<'_>], daemon: u32, corosync: u32) -> Option<[f64; PARTS.len()]> {
    let next = |from: usize, number, is_end, process| {
        let is_it = |call: &Call<'_>| {
            (call.number, call.is_end, call.process) == (number, is_end, process)
                && !(is_end && call.result <= 0)
        };
        let found = calls[from..].iter().position(is_it);
        found.map(|distance| from + distance)
    };
    let has_request = next(0, libc::SYS_read, true, daemon)?;
    let sends = next(has_request, libc::SYS_sendto, false, daemon)?;
    let journals = next(sends, libc::SYS_pwrite64, false, daemon)?;
    let applier = calls[journals].thread;
    let wakes_up = calls[..journals].iter().rposition(|call| {
        (call.thread, call.number, call.is_end) == (applier, libc::SYS_epoll_wait, true)
    })?;
    let tells = calls[..wakes_up].iter().rposition(|call| {
        (call.process, call.number, call.is_end) == (corosync, libc::SYS_sendto, false)
    })?;
    let journaled = next(journals, libc::SYS_pwrite64, true, daemon)?;
    let replies = next(journaled, libc::SYS_writev, false, daemon)?;
    let replied = next(replies, libc::SYS_writev, true, daemon)?;
    let marks = [
        0,
        has_request,
        sends,
        tells,
        wakes_up,
        journals,
        journaled,
        replies,
        replied,
        calls.len() - 1,
    ];
    let is_fuse = calls[has_request].program.starts_with("fuser");
    (is_fuse && marks.is_sorted()).then(|| {
        std::array::from_fn(|part| calls[marks[part + 1]].time_us - calls[marks[part]].time_us)
    })
}

fn print(ways: &[[f64; PARTS.len()]]) {
    let row = |what: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |tenths: usize| times.get(times.len() * tenths / 10).unwrap_or(&0.0);
        let value = format!("{:.0} / {:.0} / {:.0} us", at(1), at(5), at(9));
        line(what, &value, "none", true);
    };
    let what = format!("{} writes of 4 KiB: deciles 1 / 5 / 9", ways.len());
    let whole = ways.iter().map(|parts| parts.iter().sum());
    row(&what, whole.collect());
    for (part, name) in PARTS.iter().enumerate() {
        row(name, ways.iter().map(|parts| parts[part]).collect());
    }
}
