//! Waiting for conditions.
//!
//! No test sleeps for a fixed time: it names what it waits for and how long that may take.
//!
//! With `PMXCFS_TEST_TIMES` set, every wait of a tenth of a second or more says where it was and how long it took.

use std::panic::Location;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::tell::tell;

/// Bounds of the time between two looks. It grows with the time that was waited: a condition that comes at once is seen at once,
/// and one that takes long leaves the processors to those who bring it about.
const SHORTEST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The part of the time waited so far that the next pause may take.
const PAUSE_PART: u32 = 16;

/// Waits shorter than this are not reported.
const SHORTEST_REPORTED: Duration = Duration::from_millis(100);

/// Asks `probe` until it gives a value, for at most `limit`.
#[track_caller]
pub fn try_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    let place = Location::caller();
    loop {
        let value = probe();
        let elapsed = begin.elapsed();
        if value.is_some() || elapsed >= limit {
            report(place, elapsed);
            return value;
        }
        let pause = (elapsed / PAUSE_PART).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        std::thread::park_timeout(pause);
    }
}

/// Asks `probe` until it gives a value.
///
/// # Panics
/// After `limit`, saying what was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match try_until(limit, probe) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain for: {what}"),
    }
}

/// Whether times are to be reported.
#[must_use]
pub fn is_timed() -> bool {
    static IS_TIMED: OnceLock<bool> = OnceLock::new();
    *IS_TIMED.get_or_init(|| std::env::var_os("PMXCFS_TEST_TIMES").is_some())
}

fn report(place: &Location<'_>, elapsed: Duration) {
    if elapsed >= SHORTEST_REPORTED && is_timed() {
        let seconds = elapsed.as_secs_f32();
        tell(&format!(
            "    waited {seconds:4.1} s at {}:{}",
            place.file(),
            place.line()
        ));
    }
}
