//! Lives of whole clusters, drawn from seeds: partitions, merges, crashes of daemons, of corosync and of hosts, lost disks,
//! stopped processes, ghosts, flow control, interrupted messages, disks that are slow or fail, late quorum, clocks that
//! differ, malformed messages; with daemons under test alone, and together with models of the C daemon. Checks look at
//! every event; when the faults end, everybody must be synced, equal and writable again.
//!
//! `PMXCFS_SIM_COUNT=N` runs that many seeds of each cast, from `PMXCFS_SIM_FIRST` on. A seed that fails is cut down to the
//! steps that matter and printed with the command that replays it (`PMXCFS_SIM_SEED`), which tells the whole story.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test may fail by a panic, and tells its story"
)]

#[path = "sim/mod.rs"]
mod sim;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use sim::{
    shrink,
    story::{self, Cast},
    tally::Tally,
};

/// Seeds of each cast that run without being asked for more.
const SEED_COUNT: u64 = 120;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tells one seed's story aloud, and what is left of it when everything is taken out that does not matter.
fn replay(seed: u64, cast: Cast) {
    let (mut story, random) = story::begin(seed, cast, true);
    let outcome = catch_unwind(AssertUnwindSafe(|| story::tell(&mut story, random)));
    println!("{}", story.cluster.network.trace.join("\n"));
    if outcome.is_err() {
        let small = shrink::shrink(&story.script);
        println!("\nThe steps that matter:\n\n{small}");
        panic!("seed {seed} fails");
    }
}

fn run(cast: Cast, test: &str) {
    if let Some(seed) = variable("PMXCFS_SIM_SEED") {
        return replay(seed, cast);
    }
    let first = variable("PMXCFS_SIM_FIRST").unwrap_or(0);
    let count = variable("PMXCFS_SIM_COUNT").unwrap_or(SEED_COUNT);
    let started = Instant::now();
    let mut tally = Tally::default();
    for seed in first..first + count {
        let (mut story, random) = story::begin(seed, cast, false);
        let outcome = catch_unwind(AssertUnwindSafe(|| story::tell(&mut story, random)));
        if outcome.is_err() {
            let small = shrink::shrink(&story.script);
            println!("The steps that matter:\n\n{small}");
            panic!(
                "replay: PMXCFS_SIM_SEED={seed} cargo test -p pmxcfs-dfsm --test sim {test} -- --nocapture"
            );
        }
        tally.add(&story);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{cast:?}: {count} seeds in {seconds:.1} s\n{tally}");
}

#[test]
fn clusters_of_this_daemon_survive_what_seeds_do_to_them() {
    run(
        Cast::Ours,
        "clusters_of_this_daemon_survive_what_seeds_do_to_them",
    );
}

#[test]
fn clusters_with_c_daemons_survive_what_seeds_do_to_them() {
    run(
        Cast::Mixed,
        "clusters_with_c_daemons_survive_what_seeds_do_to_them",
    );
}
