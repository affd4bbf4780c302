//! Counters of the store.

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
    /// Tries to commit that failed.
    pub failure_count: u64,
    /// Checkpoints made.
    pub checkpoint_count: u64,
    /// Duration of the last commit.
    pub last_commit: Duration,
    /// Wall clock of the last commit in seconds; 0 if there was none.
    pub last_commit_secs: u32,
    /// Times in a row that a commit found the database held by another process.
    pub busy_count: u32,
    /// Times that another program had changed the database.
    pub foreign_change_count: u64,
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
    /// Callers that wait for a commit or a sync.
    pub waiter_count: usize,
}

/// What scrubs have done since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubStats {
    /// Scrubs that have come to their end.
    pub run_count: u64,
    /// Whether one runs.
    pub is_running: bool,
    /// Wall clock of the end of the last one in seconds; 0 if there was none.
    pub last_secs: u32,
    /// Rows that the last or the running one has compared.
    pub row_count: u64,
    /// Rows that all of them have mended.
    pub mended_count: u64,
    /// What the last or the running one has mended: a line each for the first of them.
    pub mended: Vec<String>,
    /// Why the last one ended early.
    pub failure: Option<String>,
}
