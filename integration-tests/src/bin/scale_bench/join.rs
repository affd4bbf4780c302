//! An empty node joins another one.

use std::time::{Duration, Instant};

use integration_tests::{Cluster, ClusterHost, wait};

use crate::row::{Figure, median};

/// Bytes in each file.
const SIZE: usize = 200;

/// Entries that are left out: those that a new cluster has.
const ROOM: usize = 100;

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// Joins so many entries.
pub(crate) fn measure(count: usize) -> Figure {
    let cluster = Cluster::running(2);
    cluster.extend(PATIENCE * 4);
    let (one, two) = (cluster.host(1), cluster.host(2));
    one.stop_daemon();
    two.stop_daemon();
    one.fill_database(count - ROOM, SIZE);
    one.start_daemon();
    // It hashes its entries before it joins. Without it, an empty node would be a cluster of its own.
    await_synced(one);
    let rounds = (0..ROUNDS).map(|_| {
        two.remove_database();
        let begin = Instant::now();
        two.launch_daemon();
        await_synced(two);
        let elapsed = begin.elapsed();
        two.stop_daemon();
        elapsed.as_secs_f64() * 1e3
    });
    Figure::linear("join of an empty node", "ms", median(rounds.collect()))
}

/// A member takes writes once it is in sync.
fn await_synced(host: &ClusterHost) {
    wait::until("a node to join", PATIENCE, || {
        host.write("joined", b"").ok()
    });
}
