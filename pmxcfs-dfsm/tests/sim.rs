//! Whole clusters in one thread: partitions, merges, crashes, restarts with and without disk, stopped processes, ghosts,
//! disks that fail,
//! flow control, late quorum, clocks that differ. Members that are synced hold equal trees after every step; no write is
//! applied twice or answered twice; when the faults end, everybody is synced and writable again.
//!
//! `PMXCFS_SIM_SEED=N` replays one seed, `PMXCFS_SIM_COUNT=N` runs more of them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test may fail by a panic"
)]

#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/story.rs"]
mod story;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn clusters_survive_what_seeds_do_to_them() {
    if let Some(seed) = variable("PMXCFS_SIM_SEED") {
        return story::run(seed);
    }
    for seed in 0..variable("PMXCFS_SIM_COUNT").unwrap_or(150) {
        if std::panic::catch_unwind(|| story::run(seed)).is_err() {
            panic!("replay: PMXCFS_SIM_SEED={seed} cargo test -p pmxcfs-dfsm --test sim");
        }
    }
}
