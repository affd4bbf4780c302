//! Log lines that a client can cause as often as it likes.

use std::time::{Duration, Instant};

use pmxcfs_api_types::sync::{Mutex, Rank};

/// Time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line pass in each interval.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    omitted_count: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self(Mutex::new(Rank::IpcThrottle, State::default()))
    }
}

impl Throttle {
    /// Whether a line may be written; if so, the number of lines that were left out since the one before.
    pub(crate) fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let now = Instant::now();
        if state.last.is_some_and(|last| now - last < INTERVAL) {
            state.omitted_count += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.omitted_count))
    }
}
