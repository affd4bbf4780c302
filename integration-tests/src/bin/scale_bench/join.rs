//! An empty node joins another one.

use std::time::{Duration, Instant};

use integration_tests::{Cluster, wait};

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
    let rounds = (0..ROUNDS).map(|_| {
        two.remove_database();
        let begin = Instant::now();
        two.launch_daemon();
        // A member takes writes once it is in sync.
        wait::until("a node to join", PATIENCE, || two.write("joined", b"").ok());
        let elapsed = begin.elapsed();
        two.stop_daemon();
        elapsed.as_secs_f64() * 1e3
    });
    Figure::linear("join of an empty node", "ms", median(rounds.collect()))
}
