//! Counters of the store.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What the store did and has to do, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Transactions committed.
    pub commit_count: u64,
    /// Rows written or deleted by them, the version row not counted.
    pub row_count: u64,
    /// Bytes of content in those rows.
    pub content_size_bytes: u64,
    /// Commits that were tried in vain.
    pub failure_count: u64,
    /// Checkpoints made.
    pub checkpoint_count: u64,
    /// Duration of the last commit.
    pub last_commit: Duration,
    /// Wall clock of the last commit in seconds; 0 if there was none.
    pub last_commit_secs: u32,
    /// Times in a row that a commit found the database held by another process.
    pub busy_count: u32,
    /// Redo bytes written to the crash journal since the start.
    pub journaled_bytes: u64,
    /// Bytes of header and records in the crash journal now.
    pub journal_size_bytes: u64,
    /// Bytes of its files, which keep room for what comes next.
    pub journal_allocated_bytes: u64,
    /// Bytes in SQLite's log after the last commit or checkpoint.
    pub log_size_bytes: u64,
    /// Entries waiting for the next batch.
    pub queued_entry_count: usize,
    /// Operations that are not in the database yet.
    pub queued_operation_count: u64,
    /// Operations whose caller waits for a commit.
    pub waiter_count: usize,
}

/// The counters that the threads keep.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) content_size: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) last_commit_us: AtomicU64,
    pub(super) last_commit_secs: AtomicU32,
    pub(super) busy: AtomicU32,
    pub(super) journaled_size: AtomicU64,
    pub(super) log_size: AtomicU64,
}

impl Counters {
    /// A snapshot without the queue lengths.
    pub(super) fn snapshot(&self) -> StoreStats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            commit_count: value(&self.commits),
            row_count: value(&self.rows),
            content_size_bytes: value(&self.content_size),
            failure_count: value(&self.failures),
            checkpoint_count: value(&self.checkpoints),
            last_commit: Duration::from_micros(value(&self.last_commit_us)),
            last_commit_secs: self.last_commit_secs.load(Ordering::Relaxed),
            busy_count: self.busy.load(Ordering::Relaxed),
            journaled_bytes: value(&self.journaled_size),
            log_size_bytes: value(&self.log_size),
            ..StoreStats::default()
        }
    }
}
