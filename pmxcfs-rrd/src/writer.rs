//! The thread that owns the disk and the socket.
//!
//! Whoever has a value only puts it into a queue, under a lock that is never held during I/O. The thread takes batches
//! out and feeds them; nothing that a disk or rrdcached does can reach the submitting side.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pmxcfs_api_types::sync::{Condvar, Mutex, Rank};
use thiserror::Error;

use crate::feed::{Counts, Feed};
use crate::librrd::Librrd;
use crate::note::Note;
use crate::queue::{Limits, Sample, SampleQueue};
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
    #[must_use]
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

/// Counters of a writer. Samples are counted once: when they leave the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RrdStats {
    /// Samples waiting now.
    pub queued_count: usize,
    /// Samples dropped because the queue was full or the writer stopped.
    pub dropped_count: u64,
    /// Samples that rrdcached took.
    pub rrdcached_count: u64,
    /// Samples that were written directly.
    pub direct_count: u64,
    /// Samples without a file, of no use, or refused by RRD.
    pub lost_count: u64,
}

/// The writer did not finish in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the RRD writer did not finish in time, {unwritten_count} values are lost")]
pub struct StopError {
    /// Samples that were still queued.
    pub unwritten_count: usize,
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
    work: Condvar,
    /// Signalled when the queue has been worked off or the thread ends.
    idle: Condvar,
}

#[derive(Debug)]
struct State {
    queue: SampleQueue,
    phase: Phase,
    is_writing: bool,
    counts: Counts,
    refused_count: u64,
    /// Taken by the first caller of [`RrdWriter::stop`] that sees the thread end.
    thread: Option<JoinHandle<()>>,
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
        let limits = Limits {
            sample_count: config.max_queued_samples,
            size_bytes: config.max_queued_bytes,
        };
        let state = State {
            queue: SampleQueue::new(limits),
            phase: Phase::Running,
            is_writing: false,
            counts: Counts::default(),
            refused_count: 0,
            thread: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(Rank::RrdQueue, state),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let threads_side = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("rrd".into())
            .spawn(move || run(&threads_side, config))?;
        shared.state.lock().thread = Some(thread);
        Ok(Self { shared })
    }

    /// Queues a value. `key` is without `rrd/`, `value` as it was set or received. Never waits and does no I/O: what does
    /// not fit pushes out older samples, what is no good is found out later. After [`RrdWriter::stop`] it does nothing.
    pub fn submit(&self, key: &[u8], value: &[u8]) {
        let mut state = self.shared.state.lock();
        if state.phase != Phase::Running {
            state.refused_count += 1;
            return;
        }
        let was_empty = state.queue.is_empty();
        state.queue.push(key, value);
        drop(state);
        if was_empty {
            self.shared.work.notify_one();
        }
    }

    /// Takes no more samples, waits until those queued are written and the thread has ended.
    ///
    /// # Errors
    /// `deadline` passed first. The thread then ends by itself when its present call to disk or socket returns.
    pub fn stop(&self, deadline: Instant) -> Result<(), StopError> {
        let mut state = self.shared.state.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Draining;
            self.shared.work.notify_one();
        }
        while state.phase != Phase::Ended {
            if self.shared.idle.wait_until(&mut state, deadline) && state.phase != Phase::Ended {
                state.phase = Phase::Abandoning;
                let unwritten_count = state.queue.len();
                return Err(StopError { unwritten_count });
            }
        }
        let unwritten_count = state.queue.len();
        let thread = state.thread.take();
        drop(state);
        let has_failed = thread.is_some_and(|thread| thread.join().is_err());
        if has_failed || unwritten_count > 0 {
            return Err(StopError { unwritten_count });
        }
        Ok(())
    }

    /// Waits until everything submitted before has left the queue and been handed to RRD. Returns whether that was so
    /// before `deadline`.
    #[must_use]
    pub fn wait_until_written(&self, deadline: Instant) -> bool {
        let mut state = self.shared.state.lock();
        while state.is_writing || !state.queue.is_empty() {
            if state.phase == Phase::Ended {
                return false;
            }
            if self.shared.idle.wait_until(&mut state, deadline) {
                return !state.is_writing && state.queue.is_empty();
            }
        }
        true
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> RrdStats {
        let state = self.shared.state.lock();
        RrdStats {
            queued_count: state.queue.len(),
            dropped_count: state.queue.dropped_count() + state.refused_count,
            rrdcached_count: state.counts.by_daemon,
            direct_count: state.counts.by_library,
            lost_count: state.counts.lost,
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
        self.shared.work.notify_one();
    }
}

fn run(shared: &Shared, config: RrdConfig) {
    let _end = EndGuard(shared);
    let daemon = Rrdcached::new(config.rrdcached_socket, config.rrdcached_timeout);
    let files = Librrd::new(config.directory.clone());
    let mut feed = Feed::new(config.directory, daemon, files);
    let mut overflow = OverflowReports::default();
    let mut notes = Vec::new();
    while let Some(batch) = next_batch(shared) {
        notes.extend(overflow.before_batch(batch.dropped_count));
        feed.write(&batch.samples, Instant::now(), &mut notes);
        if finish_batch(shared, feed.counts()) {
            notes.extend(overflow.when_empty(batch.dropped_count));
        }
        for note in notes.drain(..) {
            note.log();
        }
    }
}

struct Batch {
    samples: Vec<Sample>,
    dropped_count: u64,
}

/// Waits for samples. `None` when the thread is to end.
fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut state = shared.state.lock();
    loop {
        match state.phase {
            Phase::Abandoning | Phase::Ended => return None,
            Phase::Draining if state.queue.is_empty() => return None,
            Phase::Running if state.queue.is_empty() => shared.work.wait(&mut state),
            Phase::Running | Phase::Draining => break,
        }
    }
    state.is_writing = true;
    Some(Batch {
        samples: state.queue.take(BATCH_SIZE),
        dropped_count: state.queue.dropped_count(),
    })
}

/// Returns whether the queue has been worked off.
fn finish_batch(shared: &Shared, counts: Counts) -> bool {
    let mut state = shared.state.lock();
    state.is_writing = false;
    state.counts = counts;
    let is_idle = state.queue.is_empty();
    drop(state);
    if is_idle {
        shared.idle.notify_all();
    }
    is_idle
}

/// Tells waiters that the thread has ended, also if it panicked.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.phase = Phase::Ended;
        state.is_writing = false;
        drop(state);
        self.0.idle.notify_all();
    }
}

/// One note when samples begin to be dropped, one when the queue has been worked off.
#[derive(Debug, Default)]
struct OverflowReports {
    reported_count: u64,
    is_dropping: bool,
}

impl OverflowReports {
    fn before_batch(&mut self, dropped_count: u64) -> Option<Note> {
        let begins = !self.is_dropping && dropped_count > self.reported_count;
        self.is_dropping |= begins;
        begins.then(|| Note::Dropping {
            dropped_count: dropped_count - self.reported_count,
        })
    }

    fn when_empty(&mut self, dropped_count: u64) -> Option<Note> {
        let ends = std::mem::take(&mut self.is_dropping);
        let count = dropped_count - self.reported_count;
        if ends {
            self.reported_count = dropped_count;
        }
        ends.then_some(Note::CaughtUp {
            dropped_count: count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_is_told_once_and_its_end_once() {
        let mut reports = OverflowReports::default();
        assert!(reports.before_batch(0).is_none());
        assert!(reports.when_empty(0).is_none());
        for episode in 0..2_u64 {
            let base = episode * 10;
            let first = reports.before_batch(base + 3).map(|note| note.to_string());
            assert!(first.is_some_and(|text| text.contains("3 values dropped")));
            assert!(reports.before_batch(base + 7).is_none(), "told already");
            let last = reports.when_empty(base + 10).map(|note| note.to_string());
            assert!(last.is_some_and(|text| text.contains("10 values were dropped")));
            assert!(reports.when_empty(base + 10).is_none());
        }
    }
}
