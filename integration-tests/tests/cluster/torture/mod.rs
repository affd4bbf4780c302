//! Random faults under load, for as long as one likes.
//!
//! `PMXCFS_TORTURE_SECONDS` says how long (30 s if not set), `PMXCFS_TORTURE_SEED` which faults, `PMXCFS_TORTURE_NODES` on how many
//! nodes (3), `PMXCFS_TORTURE_C` which of them run the C daemon of `PMXCFS_C` (like `1,3`).
//!
//! A daemon that ever has three times the memory that it began with ends the run.
//!
//! In an episode each node has faults at times of its own, so they overlap as they like. Two things never happen, since no
//! daemon of this protocol survives them without loss: one node, another one in each episode, keeps its daemon and its network,
//! so that somebody has everything; and nobody writes in the moment in which a node falls out of the ring (see `Load::settle`).

mod fault;
mod hostile;
mod leaks;
mod plan;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::cluster::{Load, Random, Writer, assert_nothing_lost};
use integration_tests::{Cluster, tell};

use crate::alone;
use leaks::{MemoryBound, Usage};
use plan::{Fault, Plan};

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn c_hosts() -> Vec<usize> {
    let text = std::env::var("PMXCFS_TORTURE_C").unwrap_or_default();
    let numbers = text.split(',').filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().expect("PMXCFS_TORTURE_C is like 1,3"))
        .collect()
}

#[test]
fn random_faults_lose_nothing_that_was_acknowledged() {
    let time = Duration::from_secs(number_from("PMXCFS_TORTURE_SECONDS").unwrap_or(30));
    let _turn = alone();
    let seed = number_from("PMXCFS_TORTURE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let size = number_from("PMXCFS_TORTURE_NODES").unwrap_or(3);
    let size = usize::try_from(size).expect("a small cluster");
    let command = format!(
        "PMXCFS_TORTURE_SEED={seed} PMXCFS_TORTURE_NODES={size} PMXCFS_TORTURE_SECONDS={}",
        time.as_secs()
    );
    println!("{command}");
    let mut random = Random::new(seed);
    let cluster = Cluster::with_shims(size, &c_hosts());
    cluster.extend(time);
    let usages: Vec<Usage> = cluster.hosts().iter().map(Usage::of).collect();
    let bounds: Vec<MemoryBound> = cluster.hosts().iter().map(MemoryBound::of).collect();
    let hosts: Vec<usize> = (1..=size).collect();
    let mut writers = Writer::on(&hosts);
    let end = Instant::now() + time;
    let mut faults: BTreeMap<Fault, u64> = BTreeMap::new();
    while Instant::now() < end {
        let plan = Plan::draw(&mut random, size);
        println!("{plan}");
        Load::around(&cluster, &mut writers, |load| {
            thread::scope(|scope| {
                for (number, steps) in &plan.0 {
                    let cluster = &cluster;
                    scope.spawn(move || {
                        for step in steps {
                            fault::carry_out(*step, cluster.host(*number), load, cluster);
                        }
                    });
                }
            });
        });
        cluster.await_synced();
        assert_nothing_lost(&cluster, &writers);
        for (host, bound) in cluster.hosts().iter().zip(&bounds) {
            bound.assert_kept(host);
        }
        for fault in plan.faults() {
            *faults.entry(fault).or_default() += 1;
        }
    }
    for (host, usage) in cluster.hosts().iter().zip(&usages) {
        usage.assert_no_more_of(host);
    }
    cluster.stop_and_compare();
    tell(&summary(&command, &faults, &writers));
}

fn summary(command: &str, faults: &BTreeMap<Fault, u64>, writers: &[Writer]) -> String {
    let mut success_count = 0;
    let longest = writers.iter().map(|writer| &writer.report().longest);
    let (time, what) = longest.max().expect("there are writers");
    let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
    for report in writers.iter().map(Writer::report) {
        success_count += report.success_count;
        for (errno, count) in &report.failures {
            *failures.entry(errno).or_default() += count;
        }
    }
    format!(
        "{command}: {} faults {faults:?}; {success_count} operations acknowledged, none lost; refused {failures:?}; \
         longest {time:.1?}, {what}",
        faults.values().sum::<u64>()
    )
}
