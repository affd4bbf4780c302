//! Times as entries, messages and log entries carry them: whole seconds since 1970 in 32 bits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds of a time, modulo 2^32; times before 1970 wrap, as the C daemon stores them.
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
pub fn wall_clock_secs() -> u32 {
    wrapped_seconds(SystemTime::now())
}

/// Milliseconds of a duration.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970 as a date: `2023-11-14T22:13:20Z`.
pub fn utc(seconds: u32) -> String {
    let time = Timestamp::from_second(seconds.into());
    time.expect("years of four digits").to_string()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
