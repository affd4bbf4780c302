//! How far long work has come, for people who wait at a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);

/// One line on stderr that goes away when the work is done. Nothing where stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    enabled: bool,
    shown: bool,
    last: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        Self {
            what,
            total,
            done: 0,
            enabled: io::stderr().is_terminal(),
            shown: false,
            last: Instant::now(),
        }
    }

    /// One more of the total is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.enabled && self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            self.shown = true;
            let of = if self.total == 0 {
                String::new()
            } else {
                format!(" of {}", self.total)
            };
            // Only for the eye.
            let _shown = write!(io::stderr(), "\r{}: {}{of}\x1b[K", self.what, self.done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _cleared = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
