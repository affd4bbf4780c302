//! Times as entries, messages and log entries carry them: whole seconds since 1970 in 32 bits.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a time, modulo 2^32; times before 1970 wrap, as the C daemon stores them.
#[must_use]
pub fn wrapped_seconds(time: SystemTime) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "times are stored modulo 2^32"
    )]
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs() as u32,
        Err(error) => {
            let before = error.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            (whole as u32).wrapping_neg()
        }
    }
}

/// The present time of this host's clock.
#[must_use]
pub fn wall_clock_secs() -> u32 {
    wrapped_seconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_wrap_modulo_two_to_the_32() {
        let table = [
            (UNIX_EPOCH + Duration::from_secs((1 << 32) + 9), 9),
            (UNIX_EPOCH - Duration::from_secs(5), 4_294_967_291),
            (UNIX_EPOCH - Duration::from_millis(4500), 4_294_967_291),
        ];
        for (time, seconds) in table {
            assert_eq!(wrapped_seconds(time), seconds);
        }
    }
}
