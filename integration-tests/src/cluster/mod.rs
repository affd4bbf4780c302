//! Whole clusters on one machine.
//!
//! Each host is a thread of this process with network, mount and UTS namespaces of its own; a real corosync and a daemon run
//! in there. The namespaces have no names, so nothing of them can stay behind: when this process ends, whichever way, the
//! kernel ends what it started and drops the namespaces with it.

mod configuration;
mod host;
mod load;
mod namespaces;
mod random;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use host::{ClusterHost, DatabaseHolder, Member, ignored_stops};
pub use load::{Load, Report, Writer, assert_nothing_lost};
pub use random::Random;

use crate::tell::tell;
use crate::wait;
use crate::watchdog::Watchdog;
use namespaces::Switch;

/// How long corosync and the daemons may take for anything. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(40);

/// How long a cluster may exist before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(400);

/// Where the daemons mount.
const MOUNT: &str = "/etc/pve";

/// Hosts on one network.
#[derive(Debug)]
pub struct Cluster {
    // Dropped before the network.
    hosts: Vec<ClusterHost>,
    switch: Switch,
    /// One that hangs loses its processes, so that what waits for them fails and says so.
    watchdog: Watchdog,
}

impl Cluster {
    /// Hosts `node1` to `nodeN` with nothing running on them, but a corosync.conf that names them all.
    ///
    /// # Panics
    /// If this process may not make namespaces, or corosync is not installed: such tests fail, they are not skipped.
    #[must_use]
    pub fn new(size: usize) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "cluster tests need root: they make network and mount namespaces"
        );
        assert!(
            Path::new("/usr/sbin/corosync").exists(),
            "cluster tests need corosync: scripts/install-packages installs it"
        );
        let switch = Switch::new();
        let numbers: Vec<usize> = (1..=size).collect();
        let hosts = each(&numbers, |number| ClusterHost::new(&switch, *number, size));
        let killers: Vec<_> = hosts.iter().map(ClusterHost::killer).collect();
        let watchdog = Watchdog::new(PATIENCE, move || {
            tell("*** A CLUSTER HANGS: ALL OF ITS PROCESSES ARE KILLED ***");
            killers.into_iter().for_each(|kill| kill());
        });
        Self {
            hosts,
            switch,
            watchdog,
        }
    }

    /// Hosts on which corosync runs and agrees on the membership.
    #[must_use]
    pub fn with_corosync(size: usize) -> Self {
        let cluster = Self::new(size);
        each(&cluster.hosts, ClusterHost::start_corosync);
        each(&cluster.hosts, |host| host.await_quorum(true));
        cluster
    }

    /// Hosts on which corosync and the daemon run, and everything is in sync.
    #[must_use]
    pub fn running(size: usize) -> Self {
        Self::mixed(size, &[])
    }

    /// The same with another build of the daemon.
    #[must_use]
    pub fn running_program(size: usize, program: &Path) -> Self {
        let mut cluster = Self::with_corosync(size);
        for host in &mut cluster.hosts {
            host.use_program(program);
        }
        cluster.start(&[])
    }

    /// The same with the C daemon on some of the hosts.
    ///
    /// # Panics
    /// If there is no C daemon, see [`c_daemon`].
    #[must_use]
    pub fn mixed(size: usize, with_c: &[usize]) -> Self {
        Self::with_corosync(size).start(with_c)
    }

    /// The same, with disks and clocks that can be disturbed.
    ///
    /// # Panics
    /// As [`Self::mixed`].
    #[must_use]
    pub fn with_shims(size: usize, with_c: &[usize]) -> Self {
        let cluster = Self::with_corosync(size);
        each(&cluster.hosts, ClusterHost::install_shim);
        cluster.start(with_c)
    }

    /// The same, with a service manager on each host that has this daemon: its mount outlives it.
    ///
    /// # Panics
    /// As [`Self::mixed`].
    #[must_use]
    pub fn supervised(size: usize, with_c: &[usize]) -> Self {
        let mut cluster = Self::with_corosync(size);
        cluster.hosts.iter_mut().for_each(ClusterHost::supervise);
        cluster.start(with_c)
    }

    fn start(mut self, with_c: &[usize]) -> Self {
        for number in with_c {
            let binary = c_daemon().expect("PMXCFS_C names a C daemon");
            self.host_mut(*number).use_c_daemon(binary);
        }
        for host in &self.hosts {
            host.start_daemon();
        }
        self.await_synced();
        self
    }

    /// Parts these hosts from the others: each side sees itself only.
    pub fn part(&self, numbers: &[usize]) {
        self.switch.part(numbers);
    }

    /// Brings these hosts back to the others.
    pub fn meet(&self, numbers: &[usize]) {
        self.switch.join(numbers);
    }

    /// Lets it run longer than a cluster is expected to.
    pub fn extend(&self, time: Duration) {
        self.watchdog.extend(time);
    }

    /// The host `nodeNUMBER`.
    #[must_use]
    pub fn host(&self, number: usize) -> &ClusterHost {
        &self.hosts[number - 1]
    }

    /// The host `nodeNUMBER`.
    pub fn host_mut(&mut self, number: usize) -> &mut ClusterHost {
        &mut self.hosts[number - 1]
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[ClusterHost] {
        &self.hosts
    }

    /// Waits until a write on every host with a daemon reaches all of them, and all trees are equal.
    ///
    /// # Panics
    /// If that takes too long; the logs of all daemons are in the message.
    pub fn await_synced(&self) {
        let running: Vec<&ClusterHost> =
            self.hosts.iter().filter(|host| host.has_daemon()).collect();
        for host in &running {
            // Data of a node that is still to join may take the place of a write, so it is tried again.
            self.expect("a write to reach all hosts", || {
                host.write("probe", host.name().as_bytes()).ok()?;
                let has_come = |other: &&ClusterHost| {
                    let text = other.read("probe");
                    text.is_ok_and(|text| text == host.name().as_bytes())
                };
                wait::try_until(Duration::from_secs(1), || {
                    running.iter().all(has_come).then_some(())
                })
            });
        }
        self.expect("all trees to be equal", || {
            let first = running.first()?.tree().ok()?;
            let equal = running
                .iter()
                .all(|host| host.tree().is_ok_and(|tree| tree == first));
            equal.then_some(())
        });
    }

    /// Waits until the corosyncs of all other hosts have noticed that one has gone.
    ///
    /// Before they have, a new one in its place can bring the whole ring to a halt for longer than [`LIMIT`]: it asks for a
    /// message again and again that never reaches it, and no corosync serves anybody meanwhile (seen with corosync 3.1.7 on
    /// libknet 1.25, on a busy machine).
    ///
    /// # Panics
    /// If they do not notice.
    pub fn await_departure(&self, number: usize) {
        let others = self.hosts.iter().filter(|host| host.number() != number);
        for host in others.filter(|host| host.has_running_corosync()) {
            self.expect("the others to notice that a corosync has gone", || {
                (!host.has_member(number)).then_some(())
            });
        }
    }

    /// Waits for something, and shows all logs if it does not come.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn expect<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        match wait::try_until(LIMIT, probe) {
            Some(value) => value,
            None => panic!("waited {LIMIT:?} in vain for: {what}\n{}", self.logs()),
        }
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = self.hosts.iter().map(|host| {
            let (daemon, corosync) = (host.log(), host.corosync_log());
            format!(
                "--- {0}\n{1}\n--- corosync of {0}\n{2}\n",
                host.name(),
                tail(&daemon, 40),
                tail(&corosync, 30)
            )
        });
        logs.collect()
    }

    /// Stops all daemons and compares their databases, row by row.
    ///
    /// # Panics
    /// If a stop takes 2 s, or the databases differ.
    pub fn stop_and_compare(self) {
        let running: Vec<usize> = (1..=self.hosts.len())
            .filter(|number| self.host(*number).has_daemon())
            .collect();
        for number in &running {
            self.host(*number).stop_daemon();
        }
        let dumps: Vec<String> = running
            .iter()
            .map(|number| self.host(*number).database_rows())
            .collect();
        for (number, dump) in running.iter().zip(&dumps) {
            assert!(
                *dump == dumps[0],
                "the databases of node{} and node{number} differ:\n{}",
                running[0],
                difference(&dumps[0], dump)
            );
        }
    }
}

/// Does something with all items at the same time.
fn each<I: Sync, T: Send>(items: &[I], action: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let action = &action;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(move || action(item)))
            .collect();
        let results = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        results
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Lines that are in one text only, cut short.
fn difference(left: &str, right: &str) -> String {
    let only = |here: &str, there: &str, sign: char| -> String {
        let others: HashSet<&str> = there.lines().collect();
        let lines = here.lines().filter(|line| !others.contains(line));
        lines
            .map(|line| format!("{sign} {}\n", line.chars().take(100).collect::<String>()))
            .collect()
    };
    only(left, right, '-') + &only(right, left, '+')
}

/// The C daemon to mix with, if there is one: its path is in `PMXCFS_C`.
#[must_use]
pub fn c_daemon() -> Option<PathBuf> {
    std::env::var_os("PMXCFS_C").map(PathBuf::from)
}

/// So that a failing test can show everything.
impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.logs())
    }
}

/// The last lines of a text.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
