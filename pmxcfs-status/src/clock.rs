//! Where [`Status`](crate::Status) gets the time from.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The clocks of this host.
pub trait Clock: Send + Sync {
    /// Seconds since 1970, modulo 2^32: what log entries are stamped with.
    fn wall_secs(&self) -> u32;

    /// Seconds of a clock that never goes back: what ages are counted in.
    fn monotonic_secs(&self) -> u64;
}

/// The real clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A monotonic clock that starts at 0 now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_secs(&self) -> u32 {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "log entries have 32 bits for the time"
        )]
        let wrapped = seconds as u32;
        wrapped
    }

    fn monotonic_secs(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}
