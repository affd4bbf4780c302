//! Kills at random moments under load. `PMXCFS_KILLS` sets how many.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use integration_tests::{Daemon, Host, database};
use nix::sys::signal::Signal;

use crate::model::Worker;

const DEFAULT_KILL_COUNT: u64 = 20;
const WORKER_COUNT: u64 = 4;
/// Longer than a pause between commits, so that kills meet every phase of one.
const LONGEST_LIFE_MS: u64 = 160;
/// About as long as a start with recovery takes.
const LONGEST_START_MS: u64 = 40;
/// One of so many kills hits a start instead of a running daemon.
const START_KILL_SHARE: u64 = 4;

fn kill_count() -> u64 {
    match std::env::var("PMXCFS_KILLS") {
        Ok(text) => text.parse().expect("PMXCFS_KILLS is a number"),
        Err(_unset) => DEFAULT_KILL_COUNT,
    }
}

fn random_below(bound: u64) -> u64 {
    RandomState::new().hash_one(0) % bound
}

fn await_moment(delay_ms: u64) {
    let deadline = Instant::now() + Duration::from_millis(delay_ms);
    while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}

/// Kills starts before they are through, now and then, and returns one that lived.
fn start_with_accidents(host: &Host) -> Daemon<'_> {
    while random_below(START_KILL_SHARE) == 0 {
        let daemon = host.spawn(["-f", "-l"]);
        await_moment(random_below(LONGEST_START_MS));
        daemon.kill();
    }
    host.start()
}

#[test]
fn nothing_acknowledged_is_lost_in_kills_at_random_moments() {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let mut workers: Vec<Worker> = (0..WORKER_COUNT)
        .map(|number| Worker::new(host.path(format!("w{number}")), random_below(u64::MAX)))
        .collect();
    daemon.kill();
    for kill in 0..kill_count() {
        let daemon = start_with_accidents(&host);
        for worker in &mut workers {
            worker.verify();
        }
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| worker.run());
            }
            await_moment(random_below(LONGEST_LIFE_MS));
            daemon.signal(Signal::SIGKILL);
        });
        daemon.kill();
        if kill % 10 == 9 {
            // What recovery made of it must also be a database that others can open.
            let daemon = host.start();
            daemon.stop();
            assert_eq!(
                database::query(&host.database(), "PRAGMA integrity_check"),
                "ok"
            );
        }
    }
    let daemon = host.start();
    for worker in &mut workers {
        worker.verify();
    }
    daemon.stop();
    let operations: u64 = workers.iter().map(Worker::acknowledged_count).sum();
    assert!(
        operations > kill_count(),
        "only {operations} operations were tried"
    );
    eprintln!(
        "{} kills, {operations} acknowledged operations, none lost",
        kill_count()
    );
    let mut names: Vec<_> = fs::read_dir(host.state_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [".pmxcfs.lockfile", "config.db", "history.db"],
        "plain databases and the lock file"
    );
}
