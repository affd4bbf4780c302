//! When to commit, to try again, and to log. Pure: time comes in as a value.

use std::time::{Duration, Instant};

/// Shortest time between two commits while operations keep coming.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(50);

/// How long the first operation after a quiet time waits for company. Programs make a file, write it and rename it.
pub(crate) const GATHER_TIME: Duration = Duration::from_millis(3);

/// A commit of this many bytes is followed by one more [`COMMIT_INTERVAL`] of rest: a file that grows is written whole
/// by each commit.
const REST_SIZE: u64 = 256 * 1024;

/// The log is moved into the database when it is larger than this. Moving syncs the disk, and writes a page once that
/// several commits changed.
pub(crate) const LOG_SIZE: u64 = 4 * 1024 * 1024;

/// So much of a log that cannot be emptied adds one [`COMMIT_INTERVAL`].
const STUCK_LOG_STEP: u64 = 1024 * 1024;

/// The log is emptied when nothing was committed for this long.
pub(crate) const LOG_IDLE_TIME: Duration = Duration::from_secs(30);

/// Most intervals of rest after a large commit: what waits for a commit is not on the disk either.
const MOST_REST: u64 = 10;

/// How long what is committed may wait for a sync if there are many operations, so that a power cut loses at most 1.5 s
/// of work: an operation may wait 0.5 s for its commit.
const SYNC_TIME: Duration = Duration::from_millis(800);

/// How many those are: 50 each second.
const MANY_OPERATIONS: u64 = 40;

/// As [`SYNC_TIME`] for few operations. Each sync costs writes of the filesystem's own, so an idle cluster pays less.
const IDLE_SYNC_TIME: Duration = Duration::from_secs(4);

/// How often an idle thread looks whether another program has changed the database.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two tries of a sync that fails.
pub(crate) const SYNC_RETRY_TIME: Duration = Duration::from_secs(1);

/// When what was committed has to be on the disk, given the time of the first operation that is not known to be there.
pub(crate) fn sync_at(since: Instant, operation_count: u64) -> Instant {
    since
        + if operation_count >= MANY_OPERATIONS {
            SYNC_TIME
        } else {
            IDLE_SYNC_TIME
        }
}

/// Longest time between two commits while another process keeps the log from being emptied.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// Queued redo bytes that make a commit due before its time.
const EARLY_SIZE: u64 = 8 * 1024 * 1024;

/// Touched entries that make a commit due before its time.
pub(crate) const EARLY_COUNT: usize = 16 * 1024;

/// Time between two commits, given the bytes of content in the last one and the size of a log that cannot be emptied.
///
/// With a reader in the way the interval is one [`COMMIT_INTERVAL`] per MiB of log. If B MiB of distinct content are
/// rewritten between any two commits, the log's size L grows by B every 0.05 s * L, so after T seconds it is at most
/// sqrt(40 B T) MiB, instead of B T / 0.05 s. [`COMMIT_INTERVAL`] is the only constant that says how old the database
/// may be in normal times.
pub(crate) fn commit_interval(last_size: u64, stuck_log_size: u64) -> Duration {
    let steps =
        (1 + (last_size / REST_SIZE).min(MOST_REST)).max(stuck_log_size.div_ceil(STUCK_LOG_STEP));
    let steps = u32::try_from(steps).unwrap_or(u32::MAX);
    COMMIT_INTERVAL.saturating_mul(steps).min(LONGEST_INTERVAL)
}

/// Queued redo bytes at which a commit is due before its time. More while a reader makes each commit stay in the log.
pub(crate) fn early_size(stuck_log_size: u64, journal_limit: u64) -> u64 {
    if stuck_log_size > LOG_SIZE {
        EARLY_SIZE.max(journal_limit / 2)
    } else {
        EARLY_SIZE.min(journal_limit / 2)
    }
}

/// Delay before the next try while another process holds the database.
pub(crate) fn busy_delay(attempt: u32) -> Duration {
    Duration::from_millis(5 << attempt.min(6)).min(Duration::from_millis(250))
}

/// Tries after an error before the store is failed.
pub(crate) const TRIES: u32 = 4;

/// Delay before the next try after an error.
pub(crate) fn error_delay(attempt: u32) -> Duration {
    if attempt < TRIES {
        Duration::from_millis(20 << attempt)
    } else {
        Duration::from_secs(1)
    }
}

/// Lets a repeated message through at first and then at growing intervals.
#[derive(Debug, Default)]
pub(crate) struct LogPacer {
    last: Option<Instant>,
    count: u32,
}

impl LogPacer {
    /// Whether to log now.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let interval = match self.count {
            0 => Duration::ZERO,
            1 => Duration::from_secs(10),
            2 => Duration::from_secs(60),
            _ => Duration::from_secs(600),
        };
        let due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= interval);
        if due {
            self.last = Some(now);
            self.count = self.count.saturating_add(1);
        }
        due
    }

    /// The condition is over.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_the_log_that_cannot_be_emptied() {
        assert_eq!(commit_interval(0, 0), COMMIT_INTERVAL);
        assert_eq!(commit_interval(4096, STUCK_LOG_STEP), COMMIT_INTERVAL);
        assert_eq!(
            commit_interval(0, 20 * STUCK_LOG_STEP),
            COMMIT_INTERVAL * 20
        );
        assert_eq!(commit_interval(0, u64::MAX), LONGEST_INTERVAL);
        assert_eq!(commit_interval(1024 * 1024, 0), COMMIT_INTERVAL * 5);
        assert_eq!(commit_interval(u64::MAX, 0), COMMIT_INTERVAL * 11);
    }

    #[test]
    fn a_reader_costs_no_more_than_the_stated_bound() {
        // One MiB of content dirty at every commit, for an hour.
        let (mut log_size, mut elapsed) = (0_u64, Duration::ZERO);
        while elapsed < Duration::from_secs(3600) {
            log_size += STUCK_LOG_STEP;
            elapsed += commit_interval(0, log_size);
        }
        let bound = (40.0_f64 * 3600.0).sqrt() + 1.0;
        assert!((log_size / STUCK_LOG_STEP) as f64 <= bound, "{log_size}");
    }

    #[test]
    fn repeated_messages_become_rare() {
        let start = Instant::now();
        let mut pacer = LogPacer::default();
        let logged = (0..3600)
            .filter(|second| pacer.due(start + Duration::from_secs(*second)))
            .count();
        assert_eq!(logged, 3 + 5);
        pacer.reset();
        assert!(pacer.due(start));
    }
}
