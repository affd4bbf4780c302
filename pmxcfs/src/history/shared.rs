//! What the history's thread, the store's thread, reports and followers share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::time::millis;
use pmxcfs_memdb::store::{Committed, TRAIL_LIMIT_BYTES};
use tokio::sync::broadcast;

use super::record::Record;
use crate::health::report::History;

/// Backups hold the file for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// Records that followers are told of at once, and how often they are told before the slowest one falls behind. Together some
/// MiB at most.
const LINE_COUNT: usize = 256;
const LINES_COUNT: usize = 32;

/// Changes for followers.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// Number of the last record that was written before.
    pub(super) seq: i64,
    /// Version of the tree afterwards.
    pub(super) version: u64,
    /// A line of JSON for each.
    pub(super) text: Bytes,
}

/// What a follower hears, and the number of the last record before.
pub(super) type Subscription = (broadcast::Receiver<Lines>, i64);

/// State shared between threads.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// A commit did not fit. What follows it is of no use.
    is_lossy: AtomicBool,
    followers: broadcast::Sender<Lines>,
}

#[derive(Default)]
struct State {
    /// The delay is filled in when somebody asks.
    stats: History,
    /// When the oldest change came that is not written.
    waiting_since: Option<Instant>,
    /// Bytes on their way to the thread.
    queued: usize,
    /// Bytes that the thread has gathered.
    gathered: usize,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(Rank::History, State::default()),
            is_lossy: AtomicBool::new(false),
            followers: broadcast::Sender::new(LINES_COUNT),
        }
    }

    /// The size of a commit that fits. One that does not is lost, and so are all others until the thread calls
    /// [`resume`](Self::resume).
    pub(super) fn admit(&self, committed: &Committed) -> Option<usize> {
        let rows = committed.rows.iter();
        let contents = rows.filter_map(|(_, entry)| entry.as_ref());
        let contents: usize = contents.map(|entry| entry.data.len()).sum();
        let former = committed.former.iter().map(|former| former.data.len());
        let steps = size_of_val(&committed.steps[..]) + size_of_val(&committed.rows[..]);
        let size = contents + former.sum::<usize>() + steps;
        let mut state = self.state.lock();
        state.waiting_since.get_or_insert_with(Instant::now);
        if committed.is_incomplete || state.queued + state.gathered + size > TRAIL_LIMIT_BYTES {
            self.is_lossy.store(true, Ordering::SeqCst);
        }
        if self.is_lossy() {
            return None;
        }
        state.queued += size;
        Some(size)
    }

    /// The thread has taken this many bytes, and holds so many.
    pub(super) fn taken(&self, size: usize, gathered: usize) {
        let mut state = self.state.lock();
        state.gathered = gathered;
        state.queued -= size;
        if state.queued == 0 && gathered == 0 && !self.is_lossy() {
            state.waiting_since = None;
        }
    }

    /// Commits are of use again: the thread compares with the tree, which has all that were lost.
    pub(super) fn resume(&self) {
        self.is_lossy.store(false, Ordering::SeqCst);
    }

    /// Whether commits are of no use at present.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy.load(Ordering::SeqCst)
    }

    /// The file can be written, and has this size.
    pub(super) fn works(&self, size_bytes: Option<u64>) {
        let stats = &mut self.state.lock().stats;
        stats.failure = None;
        stats.size_bytes = size_bytes.unwrap_or(stats.size_bytes);
    }

    /// Notes a failure. True if it is news. Another process may hold the file for a moment.
    pub(super) fn fails(&self, failure: String, is_busy: bool) -> bool {
        let mut state = self.state.lock();
        let since = state.waiting_since;
        let has_waited = since.is_some_and(|since| since.elapsed() > BUSY_LIMIT);
        (!is_busy || has_waited) && state.stats.failure.replace(failure).is_none()
    }

    pub(super) fn written(&self, records: &[Record], left_out_count: u64, version: u64) {
        let gaps = records.iter().filter(|record| record.operation == "gap");
        let stats = &mut self.state.lock().stats;
        stats.record_count += records.len() as u64;
        stats.left_out_count += left_out_count;
        stats.gap_count += gaps.count() as u64;
        stats.version = version;
    }

    /// A follower hears of each commit from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<Lines> {
        self.followers.subscribe()
    }

    pub(super) fn follower_count(&self) -> usize {
        self.followers.receiver_count()
    }

    /// Tells followers of changes that led to a version, after this record was written.
    pub(super) fn tell_followers(&self, seq: i64, version: u64, records: &[Record]) {
        for part in records.chunks(LINE_COUNT) {
            let text = part.iter().flat_map(Record::to_line).collect();
            // Fails if the last one has just left.
            let _told = self.followers.send(Lines { seq, version, text });
        }
    }

    /// Numbers of the history since the start.
    pub(crate) fn report(&self) -> History {
        let state = self.state.lock();
        let since = state.waiting_since;
        History {
            delay_ms: since.map_or(0, |since| millis(since.elapsed())),
            ..state.stats.clone()
        }
    }
}
