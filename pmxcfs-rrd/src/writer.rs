//! The thread that owns the disk and the socket.
//!
//! Whoever has a value only puts it into a queue, under a lock that is never held during I/O. The thread takes batches
//! out and feeds them; nothing that a disk or rrdcached does can reach the submitting side.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pmxcfs_api_types::sync::{Condvar, Mutex, Rank};

use crate::feed::{Feed, RrdStats};
use crate::librrd::Librrd;
use crate::queue::{Sample, SampleQueue};
use crate::rrdcached::Rrdcached;

/// Samples per batch. rrdcached's answers to one batch must fit into a socket buffer.
const BATCH_SIZE: usize = 64;

/// What the writer is told. [`RrdConfig::new`] fills in the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrdConfig {
    /// Top directory of RRD files, absolute. It is not created.
    pub directory: PathBuf,
    /// rrdcached's unix socket, without `unix:`.
    pub rrdcached_socket: PathBuf,
    /// How long rrdcached may take to answer a batch before files are written directly.
    pub rrdcached_timeout: Duration,
    /// Samples that may wait.
    pub max_queued_samples: usize,
    /// Bytes of keys and values that may wait.
    pub max_queued_bytes: usize,
}

impl RrdConfig {
    /// Bounds for a cluster of some 10,000 guests: every file's value can wait once, and seldom takes 300 bytes.
    pub fn new(directory: PathBuf, rrdcached_socket: PathBuf) -> Self {
        Self {
            directory,
            rrdcached_socket,
            rrdcached_timeout: Duration::from_secs(5),
            max_queued_samples: 16_384,
            max_queued_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Writes samples on a thread of its own, named `rrd`.
#[derive(Debug)]
pub struct RrdWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Everything both sides touch. Held for a few instructions, never during I/O.
    state: Mutex<State>,
    /// Signalled when there is work or the phase changes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: SampleQueue,
    phase: Phase,
    /// Samples of the batch that is being written.
    writing_count: usize,
    stats: RrdStats,
}

impl State {
    fn unwritten_count(&self) -> usize {
        self.queue.len() + self.writing_count
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Taking samples.
    Running,
    /// Taking no more, writing what is queued.
    Draining,
    /// The thread ends after its batch.
    Abandoning,
    /// The thread has ended.
    Ended,
}

impl RrdWriter {
    /// Starts the thread. To be called after the daemon has forked.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start(config: RrdConfig) -> io::Result<Self> {
        let state = State {
            queue: SampleQueue::new(config.max_queued_samples, config.max_queued_bytes),
            phase: Phase::Running,
            writing_count: 0,
            stats: RrdStats::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(Rank::RrdQueue, state),
            changed: Condvar::new(),
        });
        let threads_side = Arc::clone(&shared);
        // Not joined: a disk may never answer.
        let _detached = thread::Builder::new()
            .name("rrd".into())
            .spawn(move || run(&threads_side, config))?;
        Ok(Self { shared })
    }

    /// Queues a value. `key` is without `rrd/`, `value` as it was set or received. Never waits and does no I/O: what does
    /// not fit pushes out older samples, what is no good is found out later. After [`RrdWriter::stop`] it does nothing.
    pub fn submit(&self, key: &[u8], value: &[u8]) {
        let mut state = self.shared.state.lock();
        if state.phase != Phase::Running {
            state.queue.dropped_count += 1;
            return;
        }
        let was_empty = state.queue.is_empty();
        state.queue.push(key, value);
        drop(state);
        if was_empty {
            self.shared.changed.notify_all();
        }
    }

    /// Takes no more samples, waits until those queued are written and the thread has ended. Returns how many are not written: if
    /// `deadline` passes first, the thread ends by itself when its present call to disk or socket returns.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> usize {
        let mut state = self.shared.state.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Draining;
            self.shared.changed.notify_all();
        }
        while state.phase != Phase::Ended {
            if self.shared.changed.wait_until(&mut state, deadline) && state.phase != Phase::Ended {
                state.phase = Phase::Abandoning;
                break;
            }
        }
        // A thread that has panicked leaves its batch unwritten.
        state.unwritten_count()
    }

    /// The counters now.
    pub fn stats(&self) -> RrdStats {
        let state = self.shared.state.lock();
        RrdStats {
            queued_count: state.unwritten_count() as u64,
            dropped_count: state.queue.dropped_count,
            ..state.stats.clone()
        }
    }
}

impl Drop for RrdWriter {
    /// Lets the thread write what is queued, without waiting for it.
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

fn run(shared: &Shared, config: RrdConfig) {
    let _end = EndGuard(shared);
    let daemon = Rrdcached::new(config.rrdcached_socket, config.rrdcached_timeout);
    let files = Librrd::new(config.directory.clone());
    let mut feed = Feed::new(config.directory, daemon, files);
    while let Some((samples, dropped_count)) = next_batch(shared) {
        let now = Instant::now();
        feed.note_dropped(dropped_count, now);
        feed.write(&samples, now);
        if finish_batch(shared, feed.stats.clone()) {
            feed.note_empty_queue();
        }
        for message in feed.failures.take_messages() {
            tracing::warn!("{message}");
        }
    }
}

/// Waits for samples; gives them with the number of those that the queue has dropped. `None` when the thread is to end.
fn next_batch(shared: &Shared) -> Option<(Vec<Sample>, u64)> {
    let mut state = shared.state.lock();
    loop {
        match state.phase {
            Phase::Abandoning | Phase::Ended => return None,
            Phase::Draining if state.queue.is_empty() => return None,
            Phase::Running if state.queue.is_empty() => shared.changed.wait(&mut state),
            Phase::Running | Phase::Draining => break,
        }
    }
    let samples = state.queue.take(BATCH_SIZE);
    state.writing_count = samples.len();
    Some((samples, state.queue.dropped_count))
}

/// Returns whether the queue is empty.
fn finish_batch(shared: &Shared, stats: RrdStats) -> bool {
    let mut state = shared.state.lock();
    state.writing_count = 0;
    state.stats = stats;
    state.queue.is_empty()
}

/// Tells those who wait that the thread has ended, also if it panicked.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().phase = Phase::Ended;
        self.0.changed.notify_all();
    }
}
