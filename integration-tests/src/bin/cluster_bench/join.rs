//! A node joins a cluster with many files, empty or with its own files, while another node writes or nobody does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::{Cluster, Over, cost, proc, wait};

use crate::probe::Probe;
use crate::report::line;

/// Entries, and bytes in each file.
const ENTRIES: usize = 50_000;
const SIZE: usize = 620;

/// Odd, so that the median is a round that happened.
const ROUNDS: usize = 5;

const TIME_LIMIT: Duration = Duration::from_millis(1500);
const WRITE_LIMIT: Duration = Duration::from_millis(50);
const MEMORY_LIMIT: u64 = 115_000_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Size of an update beside its content: headers, the entry's fields and name.
const UPDATE_OVERHEAD: usize = 32 + 41 + 7;

/// Size of what each node announces of an entry: its inode and its digest.
const ANNOUNCED: usize = 8 + 32;

/// Bytes of updates that a leader has under way.
const WINDOW: usize = 1024 * 1024;

/// Costs of one join.
#[derive(Debug, Default)]
struct Cost {
    elapsed: Duration,
    /// The longest write on another node meanwhile.
    longest_write: Duration,
    /// The most resident memory of the leader meanwhile.
    leader_bytes: u64,
    /// The same of the node that joins.
    joiner_bytes: u64,
}

pub(crate) fn measure() -> bool {
    let mut cluster = Cluster::running(3);
    fill(&mut cluster);
    for (what, size, count) in [
        (
            "as many updates to two bare listeners",
            SIZE + UPDATE_OVERHEAD,
            ENTRIES,
        ),
        // In pieces that the library does not cut: those of a larger message are given up when corosync is busy.
        (
            "as much as three nodes announce to two bare listeners",
            ANNOUNCED * ENTRIES / 4,
            3 * 4,
        ),
    ] {
        let bare = median((0..ROUNDS).map(|_| bare_messages(&cluster, size, count as u64)));
        line(what, &format!("{bare:.2?}"), "none", true);
    }
    let mut reaches_all = true;
    for (what, is_empty, has_writer) in [
        ("an empty node", true, false),
        ("an empty node while another node writes", true, true),
        (
            "a node that was there while another node writes",
            false,
            true,
        ),
    ] {
        let round = |_| join(&mut cluster, is_empty, has_writer);
        let costs: Vec<Cost> = (0..ROUNDS).map(round).collect();
        let time = |of: fn(&Cost) -> Duration| median(costs.iter().map(of));
        let bytes = |of: fn(&Cost) -> u64| median(costs.iter().map(of));
        let (elapsed, write) = (time(|cost| cost.elapsed), time(|cost| cost.longest_write));
        let leader = bytes(|cost| cost.leader_bytes);
        reaches_all &= line(
            &format!("join of {what}, {ENTRIES} entries of {SIZE} B"),
            &format!("{elapsed:.2?}"),
            &format!("{TIME_LIMIT:?}"),
            elapsed <= TIME_LIMIT,
        );
        if has_writer {
            reaches_all &= line(
                "  longest write on another node meanwhile",
                &format!("{write:.0?}"),
                &format!("{WRITE_LIMIT:?}"),
                write <= WRITE_LIMIT,
            );
        }
        reaches_all &= line(
            "  resident memory of the leader, at most",
            &megabytes(leader),
            &megabytes(MEMORY_LIMIT),
            leader <= MEMORY_LIMIT,
        );
        let joiner = bytes(|cost| cost.joiner_bytes);
        line(
            "  resident memory of the joining node, at most",
            &megabytes(joiner),
            "none",
            true,
        );
    }
    reaches_all
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn median<T: Ord>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.swap_remove(values.len() / 2)
}

/// Gives a running cluster its files, by way of a database.
pub(crate) fn fill(cluster: &mut Cluster) {
    for number in 1..=3 {
        cluster.host(number).stop_daemon();
    }
    cluster.host(1).fill_database(ENTRIES, SIZE);
    for number in 1..=3 {
        cluster.host(number).start_daemon();
    }
    for number in 1..=3 {
        await_last(cluster, number);
    }
}

fn await_last(cluster: &Cluster, number: usize) {
    let last = format!("d{}/f{ENTRIES}", ENTRIES - 99);
    wait::until("a node to have all files", PATIENCE, || {
        let data = cluster.host(number).read(&last).ok()?;
        (data.len() == SIZE).then_some(())
    });
}

/// Time from the start of node 3 without its database until it has all files.
pub(crate) fn elapsed(cluster: &mut Cluster) -> Duration {
    join(cluster, true, true).elapsed
}

/// Stops node 3 and starts it again. Node 1, which joined first, leads.
fn join(cluster: &mut Cluster, is_empty: bool, has_writer: bool) -> Cost {
    let three = cluster.host(3);
    three.stop_daemon();
    if is_empty {
        three.remove_database();
    }
    let leader = cluster.host(1).daemon_pid();
    cost::forget_peak(leader);
    let mut cost = Cost::default();
    let mut start = || {
        three.launch_daemon();
        let begin = Instant::now();
        await_last(cluster, 3);
        // A member takes writes once it is in sync.
        wait::until("a node to join", PATIENCE, || {
            three.write("joined", b"").ok()
        });
        cost.elapsed = begin.elapsed();
    };
    if has_writer {
        cost.longest_write = while_writing(cluster, start);
    } else {
        start();
    }
    cost.leader_bytes = proc::peak_bytes(leader);
    cost.joiner_bytes = proc::peak_bytes(three.daemon_pid());
    cost
}

/// Time for messages from node 1 to itself and the others, with nothing else to do.
fn bare_messages(cluster: &Cluster, size: usize, count: u64) -> Duration {
    let over = Over::new();
    thread::scope(|scope| {
        let _work = over.begin();
        for number in 2..=3 {
            let host = cluster.host(number);
            scope.spawn(|| host.inside(|| Probe::join().listen(&over)));
        }
        cluster.host(1).inside(|| {
            let window = (WINDOW / size).max(1);
            Probe::join().flood(&vec![1; size], count, window as u64)
        })
    })
}

/// The longest write on node 2 while something is done.
fn while_writing(cluster: &Cluster, action: impl FnOnce()) -> Duration {
    let over = Over::new();
    thread::scope(|scope| {
        let work = over.begin();
        let writer = scope.spawn(|| cluster.host(2).inside(|| longest_write(&over)));
        action();
        drop(work);
        writer.join().expect("the cluster takes writes")
    })
}

/// Writes a little now and then: a writer at full rate would be most of the load.
fn longest_write(over: &Over) -> Duration {
    let file = File::create("/etc/pve/written").expect("the cluster takes writes");
    let mut longest = Duration::ZERO;
    while !over.is_over() {
        let begin = Instant::now();
        file.write_all_at(&[1; 100], 0)
            .expect("the cluster takes writes");
        longest = longest.max(begin.elapsed());
        thread::park_timeout(Duration::from_millis(1));
    }
    longest
}
