//! Counters of the store.

pmxcfs_api_types::figures! {
    /// The store: database and crash journal. Counters are those since the start.
    StoreStats {
        /// Whether the database cannot be written, so that changes are refused.
        is_failed: bool = "store_failed",
        /// Why.
        failure: Option<String>,
        /// Times in a row that another process held the database when it was to be written.
        busy_count: u32 = "store_busy_attempts",
        /// Transactions committed.
        commit_count: u64 = "store_commits_total",
        /// Commits that failed.
        failed_commit_count: u64 = "store_failed_commits_total",
        /// Wall clock of the last commit, in seconds since 1970; 0 if there was none.
        last_commit_secs: u32 = "store_last_commit_timestamp_seconds",
        /// Duration of the last commit.
        last_commit_us: u64 = "store_last_commit_duration_seconds",
        /// Operations that are not in the database yet.
        queued_operation_count: u64 = "store_queued_operations",
        /// Entries changed since the last commit began.
        queued_entry_count: u64 = "store_queued_entries",
        /// Operations whose caller waits for a commit.
        waiter_count: u64 = "store_waiters",
        /// Rows written or deleted.
        row_count: u64 = "store_rows_total",
        /// Bytes of content in the rows written.
        content_bytes: u64 = "store_content_bytes_total",
        /// Bytes written to the crash journal.
        journaled_bytes: u64 = "store_journaled_bytes_total",
        /// Bytes in the crash journal now.
        journal_size_bytes: u64 = "store_journal_bytes",
        /// Bytes of the crash journal's files, which keep room.
        journal_allocated_bytes: u64 = "store_journal_allocated_bytes",
        /// Bytes in SQLite's log.
        log_size_bytes: u64 = "store_log_bytes",
        /// Checkpoints of SQLite's log.
        checkpoint_count: u64 = "store_checkpoints_total",
        /// Times that another program had changed the database.
        foreign_change_count: u64 = "store_foreign_changes_total",
        /// Comparisons of the database with memory.
        scrub: ScrubStats,
    }

    /// Comparisons of the database's rows with memory. Counters are those since the start.
    ScrubStats {
        /// Comparisons of the database with memory that have ended.
        run_count: u64 = "store_scrubs_total",
        /// Whether one runs.
        is_running: bool,
        /// Wall clock of the end of the last one, seconds since 1970; 0 if there was none.
        last_secs: u32,
        /// Rows that the last or the running one has compared.
        row_count: u64,
        /// Rows of the database that differed from memory and were written anew.
        mended_count: u64 = "store_scrub_mended_rows_total",
        /// The first of the rows that the last or the running one found different, and how.
        mended: Vec<String>,
        /// Why the last one could not read the database.
        failure: Option<String>,
    }
}
