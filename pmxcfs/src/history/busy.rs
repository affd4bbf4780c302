//! Files that change all the time.
//!
//! A file that changes more often than once a minute over an hour is recorded no more; a summary at the end of each hour says
//! how often it changed. It is recorded again after an hour in which it changed less.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use super::settings::stable_name;

/// Time over which changes are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// Changes in an hour that are recorded.
const LIMIT: u64 = 60;

/// Files that are counted at most. Further ones are recorded each time.
const MAX_COUNT: usize = 10_000;

/// What a file does in this hour.
#[derive(Debug, Default)]
struct Rate {
    changes: u64,
    /// Changes that were not recorded.
    skipped: u64,
    /// It was too busy in the hour before.
    was_busy: bool,
}

/// Counts changes of files by their stable names.
#[derive(Debug)]
pub(super) struct Busy {
    began: Instant,
    rates: HashMap<Vec<u8>, Rate>,
}

/// Files by their stable names, with the number of changes that were not recorded.
pub(super) type Skipped = HashMap<Vec<u8>, u64>;

impl Busy {
    /// An hour begins.
    pub(super) fn new(now: Instant) -> Self {
        let rates = HashMap::new();
        Self { began: now, rates }
    }

    /// Counts changes of a file. True if they are not to be recorded.
    pub(super) fn counts(&mut self, path: &[u8], changes: u64) -> bool {
        let name = stable_name(path);
        if !self.rates.contains_key(name) && self.rates.len() < MAX_COUNT {
            self.rates.insert(name.to_vec(), Rate::default());
        }
        let Some(rate) = self.rates.get_mut(name) else {
            return false;
        };
        // A window of writes is one record, however many there were.
        rate.changes += 1;
        let is_busy = rate.was_busy || rate.changes > LIMIT;
        if is_busy {
            rate.skipped += changes;
        }
        is_busy
    }

    /// Whether the hour is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= HOUR
    }

    /// Begins the next hour. Returns what was not recorded in this one.
    pub(super) fn next_hour(&mut self, now: Instant) -> Skipped {
        self.began = now;
        let mut skipped = Skipped::new();
        for (path, rate) in mem::take(&mut self.rates) {
            if rate.skipped > 0 {
                skipped.insert(path.clone(), rate.skipped);
            }
            if rate.changes > LIMIT {
                let next = Rate {
                    was_busy: true,
                    ..Rate::default()
                };
                self.rates.insert(path, next);
            }
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_file_is_summed_up_until_an_hour_in_which_it_is_quiet() {
        let begin = Instant::now();
        let mut busy = Busy::new(begin);
        let path = b"a.cfg.tmp.7";
        let skipped = |changes| Skipped::from([(b"a.cfg".to_vec(), changes)]);
        let first = (0..100).filter(|_| busy.counts(path, 1)).count();
        assert_eq!(first, 40);
        assert!(!busy.is_over(begin + HOUR / 2));
        assert!(busy.is_over(begin + HOUR));
        assert_eq!(busy.next_hour(begin + HOUR), skipped(40));
        assert!(busy.counts(b"a.cfg", 2));
        assert_eq!(busy.next_hour(begin + 2 * HOUR), skipped(2));
        assert!(!busy.counts(b"a.cfg", 1));
        assert!(busy.next_hour(begin + 3 * HOUR).is_empty());
    }
}
