//! Writers that remember what they were told, and readers of what they wrote.
//!
//! A writer works in a directory of its own, so that it alone decides what is in there. After each answer it knows what may be
//! found under the name: one thing after a success, several after an error that leaves it open. An answer that contradicts
//! what it knows is a lie: `EEXIST` for a directory that was not there, a file that cannot be read after it was written.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

mod expected;
mod operations;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use expected::{Expected, Found};

use super::{Cluster, ClusterHost, LIMIT, MOUNT, Random};
use crate::wait;

/// How many operations of each writer must succeed before a story begins, and again before it ends.
const PROGRESS: u64 = 5;

/// How long a writer rests after an error.
const REST: Duration = Duration::from_millis(10);

/// A writer on one host: what it knows outlives the daemons it talks to.
#[derive(Debug)]
pub struct Writer {
    host_number: usize,
    /// Whether the host has the C daemon at present.
    is_on_c: bool,
    directory: String,
    random: Random,
    serial: u64,
    names: BTreeMap<String, Expected>,
    /// What it is about, and since when, for the report.
    doing: Option<(String, Instant)>,
    report: Report,
}

/// What a writer has seen.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Operations that succeeded.
    pub success_count: u64,
    /// Operations that failed, by errno.
    pub failures: BTreeMap<String, u64>,
    /// The longest time that a part of an operation took, and which part.
    pub longest: (Duration, String),
    /// Answers that contradict what was known.
    pub lies: Vec<String>,
}

/// Says when writers work.
#[derive(Debug, Default)]
pub struct Load {
    stop: AtomicBool,
    /// Hosts on which nothing is begun.
    paused: Mutex<BTreeSet<usize>>,
    /// For each writer: its host, operations begun, ended, and ended with success.
    counts: Vec<(usize, Counts)>,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    succeeded: AtomicU64,
}

impl Load {
    /// Runs `writers` while `story` is told. It begins when all of them have written, and ends when all have written again.
    ///
    /// # Panics
    /// If a writer gets nothing written, or was told a lie.
    pub fn around<T>(
        cluster: &Cluster,
        writers: &mut [Writer],
        story: impl FnOnce(&Self) -> T,
    ) -> T {
        let load = Self::for_writers(writers);
        let value = thread::scope(|scope| {
            // A story that fails must not leave the writers running.
            let _stop = StopAtEnd(&load);
            let threads = writers.iter_mut().zip(&load.counts);
            for (writer, (_, counts)) in threads {
                let load = &load;
                let host = cluster.host(writer.host_number);
                writer.is_on_c = host.is_c();
                scope.spawn(move || host.inside(|| load.run(writer, counts)));
            }
            load.await_progress(cluster);
            let value = story(&load);
            load.await_progress(cluster);
            value
        });
        for writer in writers {
            let lies = &writer.report.lies;
            let name = &writer.directory;
            assert!(
                lies.is_empty(),
                "{name} was told lies: {lies:#?}\n{cluster}"
            );
        }
        value
    }

    fn for_writers(writers: &[Writer]) -> Self {
        let counts = |writer: &Writer| (writer.host_number, Counts::default());
        Self {
            counts: writers.iter().map(counts).collect(),
            ..Self::default()
        }
    }

    /// Waits until every writer that is not paused has got something done.
    ///
    /// # Panics
    /// If one does not.
    #[track_caller]
    pub fn await_progress(&self, cluster: &Cluster) {
        let paused = self.paused.lock().clone();
        let hosts = self.counts.iter().map(|(host, _)| *host);
        let hosts: Vec<usize> = hosts.filter(|host| !paused.contains(host)).collect();
        self.await_progress_on(&hosts, cluster);
    }

    /// Waits until every writer of these hosts has got something done.
    ///
    /// # Panics
    /// If one does not.
    #[track_caller]
    pub fn await_progress_on(&self, hosts: &[usize], cluster: &Cluster) {
        let writers = self.counts.iter().filter(|(host, _)| hosts.contains(host));
        for (host, counts) in writers {
            let goal = counts.succeeded.load(Ordering::Acquire) + PROGRESS;
            cluster.expect(&format!("writes on node{host} to succeed"), || {
                (counts.succeeded.load(Ordering::Acquire) >= goal).then_some(())
            });
        }
    }

    /// Waits until the writers of a host have got nothing but errors for a while: what they do is refused, and nobody waits.
    ///
    /// # Panics
    /// If they have not.
    #[track_caller]
    pub fn await_refusal(&self, host: usize, cluster: &Cluster) {
        for (_, counts) in self.counts.iter().filter(|(of, _)| *of == host) {
            let mut mark = (0, u64::MAX);
            cluster.expect(&format!("writes on node{host} to be refused"), || {
                let now = (
                    counts.ended.load(Ordering::Acquire),
                    counts.succeeded.load(Ordering::Acquire),
                );
                if now.1 != mark.1 {
                    mark = now;
                }
                (now.0 >= mark.0 + PROGRESS).then_some(())
            });
        }
    }

    /// Lets the writers of a host rest, and waits until they do.
    ///
    /// # Panics
    /// If an operation does not end.
    #[track_caller]
    pub fn pause(&self, host: usize) {
        self.paused.lock().insert(host);
        for (_, counts) in self.counts.iter().filter(|(of, _)| *of == host) {
            wait::until("an operation to end", LIMIT, || {
                let ended = counts.ended.load(Ordering::Acquire);
                (ended == counts.begun.load(Ordering::Acquire)).then_some(())
            });
        }
    }

    /// Lets the writers of a host rest until everybody has got what they were told is done.
    ///
    /// Corosync's agreed order delivers a message to its sender as soon as it is sent: what is sent in the moment in which a host
    /// falls out of the ring is acknowledged, and lost. No daemon can help that, so this goes before whatever makes a host fall
    /// out. One more change of the host is sent when the token comes again, so after all others have got what was sent before.
    ///
    /// # Panics
    /// If an operation does not end.
    #[track_caller]
    pub fn settle(&self, host: &ClusterHost) {
        self.pause(host.number());
        // Where changes are refused, nothing is on its way.
        let _is_sent = host.write("settled", b".");
    }

    /// Has a host fall out of the ring by `how`; its writers rest meanwhile, see [`Load::settle`].
    ///
    /// # Panics
    /// If an operation does not end.
    #[track_caller]
    pub fn part(&self, host: &ClusterHost, how: impl FnOnce(&ClusterHost)) {
        self.settle(host);
        how(host);
        self.resume(host.number());
    }

    /// Lets them go on.
    pub fn resume(&self, host: usize) {
        self.paused.lock().remove(&host);
    }

    fn may_begin(&self, writer: &Writer, counts: &Counts) -> bool {
        let paused = self.paused.lock();
        let may = !paused.contains(&writer.host_number);
        if may {
            counts.begun.fetch_add(1, Ordering::AcqRel);
        }
        may
    }

    fn run(&self, writer: &mut Writer, counts: &Counts) {
        while !self.stop.load(Ordering::Acquire) {
            if !self.may_begin(writer, counts) {
                thread::park_timeout(REST);
                continue;
            }
            let before = writer.report.success_count;
            writer.step();
            let has_succeeded = writer.report.success_count > before;
            if has_succeeded {
                counts.succeeded.fetch_add(1, Ordering::AcqRel);
            }
            counts.ended.fetch_add(1, Ordering::AcqRel);
            if !has_succeeded {
                thread::park_timeout(REST);
            }
        }
    }
}

struct StopAtEnd<'a>(&'a Load);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

impl Writer {
    /// A writer on the host `nodeHOST_NUMBER`, with a directory and a choice of operations of its own.
    #[must_use]
    pub fn new(host_number: usize, name: &str, seed: u64) -> Self {
        Self {
            host_number,
            is_on_c: false,
            directory: format!("load-{name}"),
            random: Random::new(seed),
            serial: 0,
            names: BTreeMap::new(),
            doing: None,
            report: Report::default(),
        }
    }

    /// One writer for each of these hosts.
    #[must_use]
    pub fn on(hosts: &[usize]) -> Vec<Self> {
        let writers = hosts.iter().map(|host| {
            let seed = *host as u64;
            Self::new(*host, &format!("node{host}"), seed)
        });
        writers.collect()
    }

    /// What it has seen so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What a host shows that contradicts the answers: writes that are lost, removals that are undone.
    #[must_use]
    pub fn contradictions(&self, host: &ClusterHost) -> Vec<String> {
        let result = host.inside(|| self.compare());
        let mut contradictions =
            result.unwrap_or_else(|error| vec![format!("{}: {error}", self.directory)]);
        for contradiction in &mut contradictions {
            contradiction.insert_str(0, &format!("{}: ", host.name()));
        }
        contradictions
    }

    fn compare(&self) -> io::Result<Vec<String>> {
        let directory = format!("{MOUNT}/{}", self.directory);
        let mut contradictions = Vec::new();
        for (name, expected) in &self.names {
            let found = Found::at(&format!("{directory}/{name}"))?;
            if !expected.allows(&found) {
                let path = format!("{}/{name}", self.directory);
                contradictions.push(format!("{path} is {found:?}, expected {expected:?}"));
            }
        }
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !self.names.contains_key(&name) {
                contradictions.push(format!("{}/{name} was never made", self.directory));
            }
        }
        Ok(contradictions)
    }
}

/// Every host with a daemon must show what the writers were told.
///
/// # Panics
/// If one does not.
pub fn assert_nothing_lost(cluster: &Cluster, writers: &[Writer]) {
    for host in cluster.hosts().iter().filter(|host| host.has_daemon()) {
        for writer in writers {
            let mut contradictions = Vec::new();
            let is_right = host.look(|| {
                contradictions = writer.contradictions(host);
                contradictions.is_empty().then_some(())
            });
            assert!(is_right.is_some(), "{contradictions:#?}\n{cluster}");
        }
    }
}
