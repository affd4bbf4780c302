//! What is known of SQLite's write-ahead log: when to move it into the database, whether a reader keeps it from being
//! emptied, and when to bring it to the disk. Pure.
//!
//! A commit only hands the log to the kernel, which keeps it for half a minute before it writes it. A sync brings it to
//! the disk sooner, so that a power cut loses little.
//!
//! A log whose content was moved completely starts over with the next commit, unless another process still reads a
//! state that needs it. SQLite does not tell; but since the log is cut when it starts over, one that grew did not.

use std::time::Instant;

use super::pacing::{LOG_IDLE_TIME, LOG_SIZE, SYNC_RETRY_TIME, sync_at};

/// The log as of the last commit or checkpoint.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    size: u64,
    /// All of it is in the database.
    moved: bool,
    /// Its size if it could not start over.
    stuck_size: u64,
    /// When to empty it if nothing happens until then.
    empty_at: Option<Instant>,
    /// Operations that are committed and not known to be on the disk, and the time of the first of them.
    unsynced: Option<(u64, Instant)>,
    /// No sync is tried before.
    retry_sync_at: Option<Instant>,
}

impl LogState {
    /// Takes note of a commit of so many operations, the first one at `since`. Returns whether a checkpoint is due.
    pub(crate) fn committed(
        &mut self,
        size: u64,
        operation_count: u64,
        since: Instant,
        now: Instant,
    ) -> bool {
        let (count, first) = self.unsynced.unwrap_or((0, since));
        self.unsynced = Some((count + operation_count, first));
        if self.moved {
            self.stuck_size = if size > self.size { size } else { 0 };
        }
        self.size = size;
        self.moved = false;
        self.empty_at = Some(now + LOG_IDLE_TIME);
        size > LOG_SIZE
    }

    /// Takes note of a checkpoint.
    pub(crate) fn checkpointed(&mut self, complete: bool, size: u64, now: Instant) {
        self.size = size;
        self.moved = complete;
        if complete {
            // Moving syncs the log first and the database last.
            self.synced();
        }
        if size == 0 {
            self.stuck_size = 0;
        } else if !complete && size > LOG_SIZE {
            self.stuck_size = size;
        }
        self.empty_at = (size > 0).then(|| now + LOG_IDLE_TIME);
    }

    /// Takes note that all that is committed is on the disk.
    pub(crate) fn synced(&mut self) {
        self.unsynced = None;
        self.retry_sync_at = None;
    }

    /// Takes note of a sync that failed.
    pub(crate) fn not_synced(&mut self, now: Instant) {
        self.retry_sync_at = Some(now + SYNC_RETRY_TIME);
    }

    /// When to bring what is committed to the disk.
    pub(crate) fn sync_at(&self) -> Option<Instant> {
        let (count, since) = self.unsynced?;
        let due = sync_at(since, count);
        Some(self.retry_sync_at.map_or(due, |retry| retry.max(due)))
    }

    /// When to empty the log if nothing is committed before.
    pub(crate) fn empty_at(&self) -> Option<Instant> {
        self.empty_at
    }

    /// Size in bytes of a log that commits only make longer; 0 if it starts over as it should.
    pub(crate) fn stuck_size(&self) -> u64 {
        self.stuck_size
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn commit(log: &mut LogState, size: u64, now: Instant) -> bool {
        log.committed(size, 1, now, now)
    }

    #[test]
    fn a_log_that_starts_over_is_not_stuck() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(!commit(&mut log, 4096, now));
        assert!(commit(&mut log, 3 * LOG_SIZE, now));
        log.checkpointed(true, 3 * LOG_SIZE, now);
        assert!(!commit(&mut log, 8192, now));
        assert_eq!(log.stuck_size(), 0);
        assert_eq!(log.empty_at(), Some(now + LOG_IDLE_TIME));
        log.checkpointed(true, 0, now);
        assert_eq!(log.empty_at(), None);
    }

    #[test]
    fn a_log_that_cannot_be_moved_is_stuck() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(commit(&mut log, 2 * LOG_SIZE, now));
        log.checkpointed(false, 2 * LOG_SIZE, now);
        assert_eq!(log.stuck_size(), 2 * LOG_SIZE);
        log.checkpointed(true, 0, now);
        assert_eq!(log.stuck_size(), 0);
    }

    #[test]
    fn a_log_that_grows_after_it_was_moved_is_stuck_until_it_starts_over() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(commit(&mut log, 2 * LOG_SIZE, now));
        log.checkpointed(true, 2 * LOG_SIZE, now);
        assert!(commit(&mut log, 3 * LOG_SIZE, now));
        assert_eq!(log.stuck_size(), 3 * LOG_SIZE);
        log.checkpointed(false, 3 * LOG_SIZE, now);
        assert!(commit(&mut log, 4 * LOG_SIZE, now));
        log.checkpointed(true, 4 * LOG_SIZE, now);
        assert_eq!(log.stuck_size(), 3 * LOG_SIZE);
        assert!(!commit(&mut log, 4096, now));
        assert_eq!(log.stuck_size(), 0);
    }

    #[test]
    fn many_operations_are_on_the_disk_sooner_than_few() {
        let now = Instant::now();
        let after = |log: &LogState| log.sync_at().map(|at| (at - now).as_millis());
        let mut log = LogState::default();
        assert_eq!(after(&log), None);
        log.committed(1, 10, now, now);
        log.committed(1, 10, now + Duration::from_millis(500), now);
        assert_eq!(after(&log), Some(4000));
        log.committed(1, 20, now + Duration::from_millis(700), now);
        assert_eq!(after(&log), Some(800));
        log.not_synced(now);
        assert_eq!(after(&log), Some(1000));
        log.checkpointed(false, 1, now);
        assert_eq!(after(&log), Some(1000));
        log.checkpointed(true, 1, now);
        assert_eq!(after(&log), None);
    }
}
