//! Where [`Status`](crate::Status) gets the time from.

use std::time::Instant;

use pmxcfs_api_types::time::wall_clock_secs;

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

impl Default for SystemClock {
    /// A monotonic clock that starts at 0 now.
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall_secs(&self) -> u32 {
        wall_clock_secs()
    }

    fn monotonic_secs(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}
