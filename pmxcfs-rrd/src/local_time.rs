//! The beginning of the local day, by the C library's time zone, which is the administrator's.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The last local midnight at or before `now`, both in seconds since the epoch. `None` if the C library cannot tell.
pub(crate) fn midnight(now: i64) -> Option<i64> {
    let now = Timestamp::from_second(now).ok()?;
    let day = now.to_zoned(TimeZone::system()).start_of_day().ok()?;
    Some(day.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Time zones are a property of the process, so each case is a run of this test binary of its own.
    #[test]
    fn midnight_follows_the_time_zone() {
        let cases: [(&str, i64, i64); 6] = [
            ("UTC0", 1_795_354_405, 1_795_305_600),
            ("UTC0", 1_795_305_600, 1_795_305_600),
            ("UTC0", 1_795_305_599, 1_795_219_200),
            ("XXX-5:30", 1_795_354_405, 1_795_285_800),
            ("XXX8", 1_795_305_600, 1_795_248_000),
            // Noon of the day on which summer time begins at 02:00.
            ("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_778_400, 1_774_738_800),
        ];
        for (zone, now, expected) in cases {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "local_time::tests::print_midnight",
                    "--nocapture",
                ])
                .env("TZ", zone)
                .env("PRINT_MIDNIGHT_OF", now.to_string())
                .output()
                .unwrap();
            let stdout = String::from_utf8(output.stdout).unwrap();
            let line = stdout
                .lines()
                .find_map(|line| line.split("midnight=").nth(1))
                .unwrap_or_else(|| panic!("no answer in {stdout}"));
            assert_eq!(line.parse(), Ok(expected), "{zone} {now}");
        }
    }

    /// The child of the test above; on its own it checks what holds in every zone.
    #[test]
    fn print_midnight() {
        let now =
            std::env::var("PRINT_MIDNIGHT_OF").map_or(1_795_354_405, |now| now.parse().unwrap());
        let midnight = midnight(now).unwrap();
        assert!(midnight <= now && now - midnight < 25 * 3600);
        println!("midnight={midnight}");
    }
}
