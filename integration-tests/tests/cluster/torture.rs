//! Random faults under load, for as long as one likes.
//!
//! `PMXCFS_TORTURE_SECONDS` says how long (20 s if not set), `PMXCFS_TORTURE_SEED` which faults.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::Cluster;
use integration_tests::cluster::{ClusterHost, LIMIT, Load, LoadReport};
use integration_tests::wait;
use nix::sys::signal::Signal;

use crate::alone;

const SIZE: usize = 3;

/// What is done to one host, and undone a little later. Never to two at a time: a majority has to be left.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillDaemon,
    StopDaemon,
    KillCorosync,
    Cut,
    Freeze,
    LockDatabase,
}

const FAULTS: [Fault; 6] = [
    Fault::KillDaemon,
    Fault::StopDaemon,
    Fault::KillCorosync,
    Fault::Cut,
    Fault::Freeze,
    Fault::LockDatabase,
];

/// Numbers that depend on nothing but the seed (splitmix64).
struct Random(u64);

impl Random {
    /// One of `choices`.
    fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).expect("an index")]
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

#[test]
fn random_faults_lose_nothing_that_was_acknowledged() {
    let _alone = alone();
    let time = Duration::from_secs(number_from("PMXCFS_TORTURE_SECONDS").unwrap_or(20));
    let seed = number_from("PMXCFS_TORTURE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    println!(
        "PMXCFS_TORTURE_SEED={seed} PMXCFS_TORTURE_SECONDS={}",
        time.as_secs()
    );
    let mut random = Random(seed);
    let mut cluster = Cluster::running(SIZE);
    let end = Instant::now() + time;
    let mut reports: Vec<LoadReport> = Vec::new();
    let mut fault_count = 0u32;
    while Instant::now() < end {
        let fault = random.choose(&FAULTS);
        let number = random.choose(&[1, 2, 3]);
        let before = Duration::from_millis(random.below(1500));
        let during = Duration::from_millis(200 + random.below(4000));
        println!("{fault:?} on node{number} after {before:?} for {during:?}");
        let new = one_fault(&mut cluster, fault, number, before, during);
        for report in &new {
            assert!(
                report.longest < LIMIT,
                "a write took {:?}\n{cluster}",
                report.longest
            );
        }
        cluster.await_synced();
        for report in new {
            for host in cluster.hosts() {
                let lost = report.lost_on(host);
                assert!(
                    lost.is_empty(),
                    "lost on {}: {lost:?}\n{cluster}",
                    host.name()
                );
            }
            reports.push(report);
        }
        fault_count += 1;
    }
    let writes: u64 = reports.iter().map(|report| report.success_count).sum();
    let refused: u64 = reports.iter().map(|report| report.failure_count).sum();
    println!("{fault_count} faults, {writes} writes acknowledged, {refused} refused, none lost");
    cluster.stop_and_compare();
}

/// Load on all hosts, and one fault that comes and goes.
fn one_fault(
    cluster: &mut Cluster,
    fault: Fault,
    number: usize,
    before: Duration,
    during: Duration,
) -> Vec<LoadReport> {
    let load = Load::new();
    let mut victim = cluster.take_daemon(number);
    let reports = thread::scope(|scope| {
        let writers: Vec<_> = cluster
            .hosts()
            .iter()
            .map(|host| {
                let load = &load;
                scope.spawn(move || load.run(host, host.name()))
            })
            .collect();
        let host = cluster.host(number);
        pause(before);
        let holder = begin(fault, host, &mut victim);
        pause(during);
        finish(fault, host, &mut victim, holder);
        wait::until("the host to answer", LIMIT, || host.answers().then_some(()));
        pause(before);
        load.stop();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer does not panic"))
            .collect()
    });
    cluster.return_daemon(number, victim);
    reports
}

/// Load goes on for this time.
fn pause(time: Duration) {
    thread::park_timeout(time);
}

fn begin(fault: Fault, host: &ClusterHost, daemon: &mut Child) -> Option<Child> {
    match fault {
        Fault::KillDaemon => end(daemon, Signal::SIGKILL),
        Fault::StopDaemon => {
            let from = Instant::now();
            end(daemon, Signal::SIGTERM);
            let elapsed = from.elapsed();
            assert!(
                elapsed < Duration::from_secs(2),
                "a stop took {elapsed:?}\n{}",
                host.log()
            );
        }
        Fault::KillCorosync => host.kill_corosync(),
        Fault::Cut => host.cut(),
        Fault::Freeze => signal(daemon, Signal::SIGSTOP),
        Fault::LockDatabase => {
            let mut command = Command::new("sqlite3");
            command
                .args([
                    ClusterHost::database(),
                    "-cmd",
                    "BEGIN EXCLUSIVE; SELECT 'locked';",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut holder = host.spawn(command);
            let mut line = String::new();
            let stdout = holder.stdout.take().expect("a pipe");
            BufReader::new(stdout)
                .read_line(&mut line)
                .expect("a pipe can be read");
            return Some(holder);
        }
    }
    None
}

fn finish(fault: Fault, host: &ClusterHost, daemon: &mut Child, holder: Option<Child>) {
    match fault {
        Fault::KillDaemon | Fault::StopDaemon => *daemon = host.spawn_daemon(),
        Fault::KillCorosync => host.start_corosync(),
        Fault::Cut => host.heal(),
        Fault::Freeze => signal(daemon, Signal::SIGCONT),
        Fault::LockDatabase => {
            if let Some(mut holder) = holder {
                holder.kill().expect("the holder runs");
                holder.wait().expect("a child can be waited for");
            }
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("process ids are positive");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("the daemon runs");
}

fn end(daemon: &mut Child, with: Signal) {
    signal(daemon, with);
    daemon.wait().expect("a child can be waited for");
}
