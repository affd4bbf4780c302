//! Waiting for conditions.
//!
//! No test sleeps for a fixed time: it names what it waits for and how long that may take.

use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// Asks `probe` until it gives a value, for at most `limit`.
pub fn try_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// Asks `probe` until it gives a value.
///
/// # Panics
/// After `limit`, saying what was waited for.
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match try_until(limit, probe) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain for: {what}"),
    }
}
