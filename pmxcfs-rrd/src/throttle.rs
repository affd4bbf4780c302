//! Which failures are reported, and when a failed thing is tried again.
//!
//! Values come every few seconds for every file of the cluster. A failure that lasts must not fill the journal, nor make
//! the writer repeat expensive work for each value.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Subjects come from other nodes; when there are more than this, all are forgotten.
const MAX_SUBJECT_COUNT: usize = 4096;

/// Reports in one window, whatever their subjects. A full disk fails for every file at once.
const REPORTS_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Failures by subject (a path or a key).
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failures: HashMap<Vec<u8>, Failure>,
    window: Option<(Instant, u32)>,
    unreported_count: u64,
}

#[derive(Debug)]
struct Failure {
    due: Instant,
    interval: Duration,
}

impl Throttle {
    /// Whether the subject failed and its interval has not passed. Counts as a failure that is not reported.
    pub(crate) fn must_wait(&mut self, subject: &[u8], now: Instant) -> bool {
        let waits = self
            .failures
            .get(subject)
            .is_some_and(|failure| now < failure.due);
        self.unreported_count += u64::from(waits);
        waits
    }

    /// Records a failure. If it is to be reported, returns how many were not since the last report.
    pub(crate) fn failed(&mut self, subject: &[u8], now: Instant) -> Option<u64> {
        let is_due = match self.failures.get_mut(subject) {
            Some(failure) if now < failure.due => false,
            Some(failure) => {
                failure.interval = (failure.interval * 2).min(LONGEST_INTERVAL);
                failure.due = now + failure.interval;
                true
            }
            None => {
                if self.failures.len() >= MAX_SUBJECT_COUNT {
                    self.failures.clear();
                }
                let failure = Failure {
                    due: now + FIRST_INTERVAL,
                    interval: FIRST_INTERVAL,
                };
                self.failures.insert(subject.to_vec(), failure);
                true
            }
        };
        if is_due && self.window_has_room(now) {
            return Some(std::mem::take(&mut self.unreported_count));
        }
        self.unreported_count += 1;
        None
    }

    /// Forgets the subject: its next failure is a first one.
    pub(crate) fn succeeded(&mut self, subject: &[u8]) {
        self.failures.remove(subject);
    }

    fn window_has_room(&mut self, now: Instant) -> bool {
        let (start, count) = match self.window {
            Some((start, count)) if now.duration_since(start) < WINDOW => (start, count),
            _ => (now, 0),
        };
        let has_room = count < REPORTS_PER_WINDOW;
        self.window = Some((start, count + u32::from(has_room)));
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_to_an_hour_and_start_again_after_a_success() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let mut reported_at = Vec::new();
        for second in 0..20_000 {
            let now = start + Duration::from_secs(second);
            if !throttle.must_wait(b"a", now) && throttle.failed(b"a", now).is_some() {
                reported_at.push(second);
            }
        }
        let growing = [
            0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180,
        ];
        assert_eq!(reported_at, growing);

        throttle.succeeded(b"a");
        let now = start + Duration::from_secs(20_000);
        assert!(!throttle.must_wait(b"a", now));
        assert_eq!(throttle.failed(b"a", now), Some(20_000 - 18_181));
    }

    #[test]
    fn many_subjects_share_one_window() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let reports = (0..2000_u32)
            .filter(|subject| throttle.failed(&subject.to_be_bytes(), now).is_some())
            .count();
        assert_eq!(reports, 10);
        let later = now + WINDOW;
        assert_eq!(throttle.failed(b"another", later), Some(1990));
    }

    #[test]
    fn subjects_are_bounded() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        for subject in 0..3 * MAX_SUBJECT_COUNT {
            throttle.failed(&subject.to_be_bytes(), now);
        }
        assert!(throttle.failures.len() <= MAX_SUBJECT_COUNT);
    }
}
