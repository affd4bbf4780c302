//! Long work: shows its progress on a terminal, and ends it early on a signal.
//!
//! Signals that end a process are held back meanwhile; the work polls for them, so that it can remove unfinished files.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;

use crate::daemon::signals::{STOP_SIGNALS, hold_back};

const INTERVAL: Duration = Duration::from_millis(100);

/// Steps between two looks at signals and clock.
const STEPS_AT_ONCE: usize = 16;

/// One line on stderr that goes away when the work is done. Nothing where stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    enabled: bool,
    shown: bool,
    last: Instant,
    /// Signals that are kept from this thread, which is the only one.
    arrivals: SignalFd,
    /// Signals that were kept from it before.
    mask: SigSet,
}

impl Progress {
    /// Begins work of so many steps; 0 is an unknown number.
    pub(super) fn new(what: &'static str, total: usize) -> anyhow::Result<Self> {
        let failed = "cannot hold signals back";
        let mask = SigSet::thread_get_mask().context(failed)?;
        let arrivals = hold_back(STOP_SIGNALS.into_iter().collect()).context(failed)?;
        Ok(Self {
            what,
            total,
            done: 0,
            enabled: io::stderr().is_terminal(),
            shown: false,
            last: Instant::now(),
            arrivals,
            mask,
        })
    }

    /// One more step is done.
    ///
    /// # Errors
    /// If the work is to end here.
    pub(super) fn step(&mut self) -> anyhow::Result<()> {
        self.done += 1;
        if !self.done.is_multiple_of(STEPS_AT_ONCE) {
            return Ok(());
        }
        self.finish()?;
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
        Ok(())
    }

    /// The last look before what was made counts. Signals that come later wait for the end of this value.
    ///
    /// # Errors
    /// If the work is to end here.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.arrivals.read_signal()?.is_some() {
            bail!("interrupted");
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _cleared = write!(io::stderr(), "\r\x1b[K");
        }
        // The mask was valid before.
        let _restored = self.mask.thread_set_mask();
    }
}
