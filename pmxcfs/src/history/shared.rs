//! What the history's thread, the store's thread and reports share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::time::millis;
use pmxcfs_memdb::store::{Committed, TRAIL_LIMIT_BYTES};
use tokio::sync::broadcast;

use super::record::Record;
use crate::health::report::History;

/// Backups hold the file for moments.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Records that followers are told of at once, and how often they are told before the slowest one falls behind. Together some
/// MiB at most.
const LINE_COUNT: usize = 256;
const LINES_COUNT: usize = 32;

/// Records for followers.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// Number of the last one.
    pub(super) last_seq: i64,
    /// A line of JSON for each.
    pub(super) text: Bytes,
}

/// State shared between threads.
pub(crate) struct Shared {
    /// The delay is filled in when somebody asks.
    stats: Mutex<History>,
    /// When the oldest change came that is not written.
    waiting_since: Mutex<Option<Instant>>,
    /// Bytes on their way to the thread.
    queued: AtomicUsize,
    /// Bytes that the thread has gathered.
    gathered: AtomicUsize,
    /// Each one reads what it has not read yet.
    followers: broadcast::Sender<Lines>,
    /// A commit did not fit.
    is_lossy: AtomicBool,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            stats: Mutex::new(Rank::HistoryStats, History::default()),
            waiting_since: Mutex::new(Rank::HistoryWaiting, None),
            queued: AtomicUsize::new(0),
            gathered: AtomicUsize::new(0),
            followers: broadcast::Sender::new(LINES_COUNT),
            is_lossy: AtomicBool::new(false),
        }
    }

    /// The size of a commit that fits; one that does not is lost.
    pub(super) fn admit(&self, committed: &Committed) -> Option<usize> {
        let contents = committed
            .rows
            .iter()
            .filter_map(|(_, entry)| entry.as_ref());
        let contents: usize = contents.map(|entry| entry.data.len()).sum();
        let former = committed.former.iter().map(|former| former.data.len());
        let steps = size_of_val(&committed.steps[..]) + size_of_val(&committed.rows[..]);
        let size = contents + former.sum::<usize>() + steps;
        let held = self.queued.load(Ordering::Relaxed) + self.gathered.load(Ordering::Relaxed);
        if held + size > TRAIL_LIMIT_BYTES {
            self.is_lossy.store(true, Ordering::Relaxed);
            return None;
        }
        self.queued.fetch_add(size, Ordering::Relaxed);
        self.waiting_since.lock().get_or_insert_with(Instant::now);
        Some(size)
    }

    /// The thread has taken this many bytes, and holds so many.
    pub(super) fn taken(&self, size: usize, gathered: usize) {
        self.gathered.store(gathered, Ordering::Relaxed);
        let queued = self.queued.fetch_sub(size, Ordering::Relaxed) - size;
        if queued == 0 && gathered == 0 {
            *self.waiting_since.lock() = None;
        }
    }

    /// Whether a commit was lost since the last call.
    pub(super) fn take_loss(&self) -> bool {
        self.is_lossy.swap(false, Ordering::Relaxed)
    }

    pub(super) fn works(&self) {
        self.stats.lock().failure = None;
    }

    /// Notes a failure. True if it is news. Another process may hold the file for a moment.
    pub(super) fn fails(&self, failure: String, is_busy: bool) -> bool {
        let since = *self.waiting_since.lock();
        let has_waited = since.is_some_and(|since| since.elapsed() > BUSY_LIMIT);
        (!is_busy || has_waited) && self.stats.lock().failure.replace(failure).is_none()
    }

    pub(super) fn written(&self, records: Vec<Record>, left_out_count: u64, version: u64) {
        self.tell_followers(&records);
        let gaps = records.iter().filter(|record| record.operation == "gap");
        let gap_count = gaps.count() as u64;
        let mut stats = self.stats.lock();
        stats.record_count += records.len() as u64;
        stats.left_out_count += left_out_count;
        stats.gap_count += gap_count;
        stats.version = version;
    }

    /// A follower hears of each transaction from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<Lines> {
        self.followers.subscribe()
    }

    fn tell_followers(&self, records: &[Record]) {
        if self.followers.receiver_count() == 0 {
            return;
        }
        for part in records.chunks(LINE_COUNT) {
            let last_seq = part.last().map_or(0, |record| record.seq);
            let text = part.iter().flat_map(Record::to_line).collect();
            // Fails if the last one has just left.
            let _told = self.followers.send(Lines { last_seq, text });
        }
    }

    pub(super) fn measured(&self, size_bytes: u64) {
        self.stats.lock().size_bytes = size_bytes;
    }

    /// Numbers of the history since the start.
    pub(crate) fn report(&self) -> History {
        let since = *self.waiting_since.lock();
        History {
            delay_ms: since.map_or(0, |since| millis(since.elapsed())),
            ..self.stats.lock().clone()
        }
    }
}
