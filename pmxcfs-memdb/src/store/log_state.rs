//! What is known of SQLite's write-ahead log: when to move it into the database, and whether a reader keeps it from
//! being emptied. Pure.
//!
//! A log whose content was moved completely starts over with the next commit, unless another process still reads a
//! state that needs it. SQLite does not tell; but since the log is cut when it starts over, one that grew did not.

use std::time::Instant;

use super::pacing::{LOG_IDLE_TIME, LOG_SIZE};

/// The log as of the last commit or checkpoint.
#[derive(Debug, Default)]
pub(super) struct LogState {
    size: u64,
    /// All of it is in the database.
    moved: bool,
    /// Its size if it could not start over.
    stuck_size: u64,
    /// When to empty it if nothing happens until then.
    empty_at: Option<Instant>,
}

impl LogState {
    /// Takes note of a commit. Returns whether a checkpoint is due.
    pub(super) fn committed(&mut self, size: u64, now: Instant) -> bool {
        if self.moved {
            self.stuck_size = if size > self.size { size } else { 0 };
        }
        self.size = size;
        self.moved = false;
        self.empty_at = Some(now + LOG_IDLE_TIME);
        size > LOG_SIZE
    }

    /// Takes note of a checkpoint.
    pub(super) fn checkpointed(&mut self, complete: bool, size: u64, now: Instant) {
        self.size = size;
        self.moved = complete;
        if size == 0 {
            self.stuck_size = 0;
        } else if !complete && size > LOG_SIZE {
            self.stuck_size = size;
        }
        self.empty_at = (size > 0).then(|| now + LOG_IDLE_TIME);
    }

    /// When to empty the log if nothing is committed before.
    pub(super) fn empty_at(&self) -> Option<Instant> {
        self.empty_at
    }

    /// Size in bytes of a log that commits only make longer; 0 if it starts over as it should.
    pub(super) fn stuck_size(&self) -> u64 {
        self.stuck_size
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_starts_over_is_not_stuck() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(!log.committed(4096, now));
        assert!(log.committed(3 * LOG_SIZE, now));
        log.checkpointed(true, 3 * LOG_SIZE, now);
        assert!(!log.committed(8192, now));
        assert_eq!(log.stuck_size(), 0);
        assert_eq!(log.empty_at(), Some(now + LOG_IDLE_TIME));
        log.checkpointed(true, 0, now);
        assert_eq!(log.empty_at(), None);
    }

    #[test]
    fn a_log_that_cannot_be_moved_is_stuck() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(log.committed(2 * LOG_SIZE, now));
        log.checkpointed(false, 2 * LOG_SIZE, now);
        assert_eq!(log.stuck_size(), 2 * LOG_SIZE);
        log.checkpointed(true, 0, now);
        assert_eq!(log.stuck_size(), 0);
    }

    #[test]
    fn a_log_that_grows_after_it_was_moved_is_stuck_until_it_starts_over() {
        let now = Instant::now();
        let mut log = LogState::default();
        assert!(log.committed(2 * LOG_SIZE, now));
        log.checkpointed(true, 2 * LOG_SIZE, now);
        assert!(log.committed(3 * LOG_SIZE, now));
        assert_eq!(log.stuck_size(), 3 * LOG_SIZE);
        log.checkpointed(false, 3 * LOG_SIZE, now);
        assert!(log.committed(4 * LOG_SIZE, now));
        log.checkpointed(true, 4 * LOG_SIZE, now);
        assert_eq!(log.stuck_size(), 3 * LOG_SIZE);
        assert!(!log.committed(4096, now));
        assert_eq!(log.stuck_size(), 0);
    }
}
