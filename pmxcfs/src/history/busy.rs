//! Files that change all the time.
//!
//! A file that changes more often than once a minute over an hour is recorded no more; a summary at the end of each hour says
//! how often it changed. It is recorded again after an hour in which it changed less.

use std::collections::HashMap;
use std::mem;

use super::settings::stable_name;

/// Seconds over which changes are counted.
const HOUR: u32 = 3600;

/// Changes in an hour that are recorded.
const LIMIT: u64 = 60;

/// Files that are counted at most. Further ones are recorded each time.
const MAX_COUNT: usize = 10_000;

/// What a file does in this hour.
#[derive(Debug, Clone, Default)]
struct Rate {
    changes: u64,
    /// Changes that were not recorded.
    skipped: u64,
    /// It was too busy in the hour before.
    was_busy: bool,
}

/// Counts changes of files by their stable names.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    began: Option<u32>,
    rates: HashMap<Vec<u8>, Rate>,
}

impl Busy {
    /// Counts changes of a file. True if they are not to be recorded.
    pub(super) fn counts(&mut self, path: &[u8], now: u32, changes: u64) -> bool {
        self.began.get_or_insert(now);
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

    /// Whether changes of this hour were not recorded.
    pub(super) fn has_skipped(&self) -> bool {
        self.rates.values().any(|rate| rate.skipped > 0)
    }

    /// At the end of an hour, files with the number of changes that were not recorded. A clock that jumps ends it as well.
    pub(super) fn end_hour(&mut self, now: u32) -> Vec<(Vec<u8>, u64)> {
        match self.began {
            Some(began) if now.abs_diff(began) < HOUR => return Vec::new(),
            _ => self.began = Some(now),
        }
        let ended = mem::take(&mut self.rates);
        let mut skipped = Vec::new();
        for (path, rate) in ended {
            if rate.skipped > 0 {
                skipped.push((path.clone(), rate.skipped));
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
        let mut busy = Busy::default();
        let path = b"a.cfg.tmp.7";
        let first = (0..100).filter(|at| busy.counts(path, *at, 1)).count();
        assert_eq!(first, 40);
        assert!(busy.end_hour(HOUR - 1).is_empty());
        assert_eq!(busy.end_hour(HOUR), [(b"a.cfg".to_vec(), 40)]);
        assert!(busy.counts(b"a.cfg", HOUR + 1, 2));
        assert_eq!(busy.end_hour(2 * HOUR), [(b"a.cfg".to_vec(), 2)]);
        assert!(!busy.counts(b"a.cfg", 2 * HOUR + 1, 1));
        assert!(busy.end_hour(3 * HOUR).is_empty());
    }
}
