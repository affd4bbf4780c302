//! What fails, what the operator is told of it, and when a failed thing is tried again.
//!
//! Values come every few seconds for every file of the cluster. A failure that lasts must not fill the journal, nor make
//! the writer repeat expensive work for each value. Messages are collected instead of logged, so that tests see what is
//! told, and how often.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

const FIRST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Subjects come from other nodes. Beyond this number, those whose interval has passed are forgotten.
const MAX_SUBJECT_COUNT: usize = 16_384;

/// Messages in one window, whatever their subjects. A full disk fails for every file at once.
const MESSAGES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Failures by subject: the words with which their message begins.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    by_subject: HashMap<String, Failure>,
    states: HashSet<&'static str>,
    window: Option<(Instant, u32)>,
    untold_count: u64,
    messages: Vec<String>,
}

#[derive(Debug)]
struct Failure {
    due: Instant,
    interval: Duration,
}

impl Failures {
    /// Whether the subject has failed and its interval has not passed. Counts as a failure that is not told.
    pub(crate) fn must_wait(&mut self, subject: &str, now: Instant) -> bool {
        let failure = self.by_subject.get(subject);
        let waits = failure.is_some_and(|failure| now < failure.due);
        self.untold_count += u64::from(waits);
        waits
    }

    /// Records a failure, and tells it unless the subject's interval has not passed or the window is full.
    pub(crate) fn failed(&mut self, subject: &str, reason: impl Display, now: Instant) {
        let known = self.by_subject.get(subject);
        if known.is_some_and(|failure| now < failure.due) {
            self.untold_count += 1;
            return;
        }
        let interval = known.map_or(FIRST_INTERVAL, |failure| {
            (failure.interval * 2).min(LONGEST_INTERVAL)
        });
        if self.by_subject.len() >= MAX_SUBJECT_COUNT {
            self.by_subject.retain(|_, failure| now < failure.due);
        }
        if self.by_subject.len() < MAX_SUBJECT_COUNT {
            let due = now + interval;
            self.by_subject
                .insert(subject.to_owned(), Failure { due, interval });
        }
        if !self.window_has_room(now) {
            self.untold_count += 1;
            return;
        }
        let untold = match std::mem::take(&mut self.untold_count) {
            0 => String::new(),
            count => format!(" ({count} failures before this one were not reported)"),
        };
        self.messages.push(format!("{subject}: {reason}{untold}"));
    }

    /// Forgets the subject, which is asked for only if anything has failed: its next failure is a first one. Returns whether it had failed.
    pub(crate) fn succeeded(&mut self, subject: impl FnOnce() -> String) -> bool {
        !self.by_subject.is_empty() && self.by_subject.remove(&subject()).is_some()
    }

    /// Records that a part that all values need has failed. It is told once, and nothing else waits for it.
    pub(crate) fn is_down(&mut self, part: &'static str, reason: impl Display) {
        if self.states.insert(part) {
            self.messages.push(format!("{part}: {reason}"));
        }
    }

    #[cfg(test)]
    pub(crate) fn has_failed(&self, part: &str) -> bool {
        self.states.contains(part)
    }

    /// The part works. Returns whether it had failed.
    pub(crate) fn is_up(&mut self, part: &str) -> bool {
        self.states.remove(part)
    }

    /// The messages since the last call.
    pub(crate) fn take_messages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }

    fn window_has_room(&mut self, now: Instant) -> bool {
        let (start, count) = match self.window {
            Some((start, count)) if now.duration_since(start) < WINDOW => (start, count),
            _ => (now, 0),
        };
        let has_room = count < MESSAGES_PER_WINDOW;
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
        let mut failures = Failures::default();
        let mut told_at = Vec::new();
        for second in 0..20_000 {
            let now = start + Duration::from_secs(second);
            if !failures.must_wait("a", now) {
                failures.failed("a", "reason", now);
            }
            if !failures.take_messages().is_empty() {
                told_at.push(second);
            }
        }
        let growing = [
            0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180,
        ];
        assert_eq!(told_at, growing);

        assert!(failures.succeeded(|| "a".to_owned()));
        let now = start + Duration::from_secs(20_000);
        assert!(!failures.must_wait("a", now));
        failures.failed("a", "reason", now);
        let message = "a: reason (1819 failures before this one were not reported)";
        assert_eq!(failures.take_messages(), [message]);
    }

    #[test]
    fn many_subjects_share_one_window() {
        let now = Instant::now();
        let mut failures = Failures::default();
        for subject in 0..2000 {
            failures.failed(&subject.to_string(), "reason", now);
        }
        assert_eq!(failures.take_messages().len(), 10);
        failures.failed("another", "reason", now + WINDOW);
        let message = "another: reason (1990 failures before this one were not reported)";
        assert_eq!(failures.take_messages(), [message]);
    }

    #[test]
    fn subjects_are_bounded() {
        let now = Instant::now();
        let mut failures = Failures::default();
        for subject in 0..3 * MAX_SUBJECT_COUNT {
            failures.failed(&subject.to_string(), "reason", now);
        }
        assert!(failures.by_subject.len() <= MAX_SUBJECT_COUNT);
    }
}
