//! Random faults under load, for as long as one likes.
//!
//! `PMXCFS_TORTURE_SECONDS` says how long (30 s if not set), `PMXCFS_TORTURE_SEED` which faults, `PMXCFS_TORTURE_NODES` on how many
//! nodes (3), `PMXCFS_TORTURE_C` which of them run the C daemon of `PMXCFS_C` (like `1,3`).
//!
//! In an episode each node has faults at times of its own, so they overlap as they like. Two things never happen, since no
//! daemon of this protocol survives them without loss: one node, another one in each episode, keeps its daemon and its network,
//! so that somebody has everything; and nobody writes in the moment in which a node falls out of the ring (see `partition::cut`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::cluster::{
    ClusterHost, DatabaseHolder, LIMIT, Load, Random, Writer, assert_nothing_lost,
};
use integration_tests::{Cluster, wait};
use nix::sys::signal::Signal;

use crate::partition::cut;
use crate::{PATIENCE, alone_for, tell};

/// What is done to a host, and undone a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillDaemon,
    StopDaemon,
    KillCorosync,
    StopCorosync,
    Cut,
    FreezeDaemon,
    FreezeCorosync,
    HoldDatabase,
    FillDisk,
    /// Back with an empty database. Only by itself: what the others lack may be only here.
    LoseDatabase,
}

/// Faults of a node that others can rely on.
const HARMLESS: [Fault; 2] = [Fault::FreezeDaemon, Fault::HoldDatabase];

const FAULTS: [Fault; 9] = [
    Fault::KillDaemon,
    Fault::StopDaemon,
    Fault::KillCorosync,
    Fault::StopCorosync,
    Fault::Cut,
    Fault::FreezeDaemon,
    Fault::FreezeCorosync,
    Fault::HoldDatabase,
    Fault::FillDisk,
];

/// A fault of one host: after `before`, for `during`.
#[derive(Debug, Clone, Copy)]
struct Step {
    before: Duration,
    fault: Fault,
    during: Duration,
}

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
    let _alone = alone_for(time + PATIENCE);
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
    let cluster = Cluster::mixed(size, &c_hosts());
    let hosts: Vec<usize> = (1..=size).collect();
    let mut writers = Writer::on(&hosts);
    let end = Instant::now() + time;
    let mut fault_count = 0;
    while Instant::now() < end {
        let plan = plan(&mut random, size);
        println!("{}", describe(&plan));
        Load::around(&cluster, &mut writers, |load| {
            thread::scope(|scope| {
                for (number, steps) in &plan {
                    let cluster = &cluster;
                    scope.spawn(move || {
                        for step in steps {
                            carry_out(*step, cluster.host(*number), load, cluster);
                        }
                    });
                }
            });
        });
        cluster.await_synced();
        assert_nothing_lost(&cluster, &writers);
        fault_count += plan.values().map(Vec::len).sum::<usize>();
    }
    cluster.stop_and_compare();
    tell(&summary(&command, fault_count, &writers));
}

fn plan(random: &mut Random, size: usize) -> BTreeMap<usize, Vec<Step>> {
    let anchor = 1 + random.index(size);
    if random.below(5) == 0 {
        let step = step(random, Fault::LoseDatabase);
        return BTreeMap::from([(anchor, vec![step])]);
    }
    let mut plan = BTreeMap::new();
    for number in 1..=size {
        let count = random.below(4);
        let steps = (0..count).map(|_| {
            let fault = match number == anchor {
                true => random.choose(&HARMLESS),
                false => random.choose(&FAULTS),
            };
            step(random, fault)
        });
        plan.insert(number, steps.collect());
    }
    plan
}

fn step(random: &mut Random, fault: Fault) -> Step {
    // Short ones hit the synchronisation that the fault before has caused.
    let longest = random.choose(&[50, 500, 3000]);
    Step {
        before: Duration::from_millis(random.below(longest)),
        fault,
        during: Duration::from_millis(random.below(longest)),
    }
}

fn describe(plan: &BTreeMap<usize, Vec<Step>>) -> String {
    let mut text = "episode:".to_owned();
    for (number, steps) in plan {
        write!(text, "\n  node{number}").expect("a text can be extended");
        for Step {
            before,
            fault,
            during,
        } in steps
        {
            write!(text, " {before:?} {fault:?} {during:?}").expect("a text can be extended");
        }
    }
    text
}

fn summary(command: &str, fault_count: usize, writers: &[Writer]) -> String {
    let mut success_count = 0;
    let mut longest = Duration::ZERO;
    let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
    for report in writers.iter().map(Writer::report) {
        success_count += report.success_count;
        longest = longest.max(report.longest);
        for (errno, count) in &report.failures {
            *failures.entry(errno).or_default() += count;
        }
    }
    format!(
        "{command}: {fault_count} faults, {success_count} operations acknowledged, none lost; refused {failures:?}; \
         longest {longest:.1?}"
    )
}

fn carry_out(step: Step, host: &ClusterHost, load: &Load, cluster: &Cluster) {
    pause(step.before);
    let holder = begin(step.fault, host, load, cluster);
    pause(step.during);
    finish(step.fault, host, load, holder);
    wait::until("the mount to answer", LIMIT, || {
        host.answers().then_some(())
    });
}

/// Load goes on for this time.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn begin(
    fault: Fault,
    host: &ClusterHost,
    load: &Load,
    cluster: &Cluster,
) -> Option<DatabaseHolder> {
    match fault {
        Fault::KillDaemon => host.kill_daemon(),
        Fault::StopDaemon => host.stop_daemon(),
        Fault::KillCorosync => host.kill_corosync(),
        Fault::StopCorosync => host.stop_corosync(),
        Fault::Cut => cut(load, cluster, host.number()),
        Fault::FreezeDaemon => host.signal_daemon(Signal::SIGSTOP),
        Fault::FreezeCorosync => {
            // With a token that the others have given up, corosync may still deliver to itself what nobody else gets.
            load.pause(host.number());
            host.signal_corosync(Signal::SIGSTOP);
        }
        Fault::HoldDatabase => return Some(host.hold_database()),
        Fault::FillDisk => host.fill_disk(),
        Fault::LoseDatabase => {
            host.kill_daemon();
            host.remove_database();
        }
    }
    None
}

fn finish(fault: Fault, host: &ClusterHost, load: &Load, holder: Option<DatabaseHolder>) {
    match fault {
        Fault::KillDaemon | Fault::StopDaemon | Fault::LoseDatabase => host.start_daemon(),
        Fault::KillCorosync | Fault::StopCorosync => host.start_corosync(),
        Fault::Cut => host.heal(),
        Fault::FreezeDaemon => host.signal_daemon(Signal::SIGCONT),
        Fault::FreezeCorosync => {
            host.signal_corosync(Signal::SIGCONT);
            host.await_corosync();
            load.resume(host.number());
        }
        Fault::HoldDatabase => drop(holder),
        Fault::FillDisk => host.empty_disk(),
    }
}
