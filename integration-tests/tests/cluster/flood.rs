//! A node joins a large cluster in which all others write as fast as they can.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::cluster::ClusterHost;
use integration_tests::{Cluster, Over, tell, wait};

use crate::alone;

const ENTRY_COUNT: u32 = 50_000;
const FILE_SIZE: usize = 1024 * 1024;

/// How long a busy machine may take for any of it.
const PATIENCE: Duration = Duration::from_secs(300);

/// The log line of a member that has to keep too much.
const EXCESS: &str = "came during the synchronisation, at most";

/// Puts entries of 620 bytes into the database of a stopped daemon.
fn fill(host: &ClusterHost) {
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ENTRY_COUNT})
         INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data)
         SELECT 100000 + i, 0, 100000 + i, 1, 1700000000, 8, 'f' || i, zeroblob(620) FROM n;
         UPDATE tree SET version = 100001 + {ENTRY_COUNT} WHERE inode = 0;"
    );
    let output = host.run("sqlite3", &["/var/lib/pve-cluster/config.db", &rows]);
    assert!(output.status.success(), "{output:?}");
}

/// The most memory that the daemon of a host has had, in MiB.
fn peak_mib(host: &ClusterHost) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.daemon_pid()));
    let status = status.expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("VmHWM").parse::<u64>().expect("a number") / 1024
}

#[test]
fn a_node_joins_while_three_write_large_files_at_full_rate() {
    let _turn = alone();
    let cluster = Cluster::with_corosync(4);
    cluster.extend(3 * PATIENCE);
    cluster.host(1).start_daemon();
    cluster.host(1).stop_daemon();
    fill(cluster.host(1));
    for number in 1..=3 {
        cluster.host(number).start_daemon();
        cluster.expect("the entries on a host", || {
            cluster.host(number).read(&format!("f{ENTRY_COUNT}")).ok()
        });
    }

    let over = Over::new();
    let write_count = AtomicU64::new(0);
    let slowest_ms = AtomicU64::new(0);
    let four = cluster.host(4);
    thread::scope(|scope| {
        let work = over.begin();
        for number in 1..=3 {
            for file in 0..2 {
                let (cluster, over, write_count, slowest_ms) =
                    (&cluster, &over, &write_count, &slowest_ms);
                scope.spawn(move || {
                    let data = vec![b'l'; FILE_SIZE];
                    while !over.is_over() {
                        let begin = Instant::now();
                        let name = format!("large{number}.{file}");
                        if cluster.host(number).write(&name, &data).is_ok() {
                            write_count.fetch_add(1, Ordering::Relaxed);
                        }
                        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap();
                        slowest_ms.fetch_max(took_ms, Ordering::Relaxed);
                    }
                });
            }
        }
        let has_begun = || (write_count.load(Ordering::Relaxed) > 20).then_some(());
        let is_writing = wait::try_until(PATIENCE, has_begun).is_some();
        assert!(is_writing, "nobody writes\n{}", cluster.logs());
        let (begin, count) = (Instant::now(), write_count.load(Ordering::Relaxed));
        slowest_ms.store(0, Ordering::Relaxed);
        four.start_daemon();
        let is_synced = || four.read(&format!("f{ENTRY_COUNT}")).ok();
        let synced = wait::try_until(PATIENCE, is_synced);
        drop(work);
        assert!(synced.is_some(), "never synchronised\n{}", cluster.logs());
        tell(&format!(
            "joined after {:.1} s and {} tries, {} writes meanwhile, slowest {} ms, peak {} MiB here, {} MiB on node1",
            begin.elapsed().as_secs_f64(),
            1 + four.log_count(EXCESS),
            write_count.load(Ordering::Relaxed) - count,
            slowest_ms.load(Ordering::Relaxed),
            peak_mib(four),
            peak_mib(cluster.host(1)),
        ));
    });
    assert!(four.log_count(EXCESS) <= 2, "{}", four.log());
    for host in &cluster.hosts()[..3] {
        assert_eq!(host.log_count(EXCESS), 0, "{}", host.log());
    }
    cluster.await_synced();
    cluster.stop_and_compare();
}
