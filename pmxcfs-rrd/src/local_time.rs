//! The beginning of the local day, by the C library's time zone, which is the administrator's.

#![expect(
    unsafe_code,
    reason = "no crate in use knows the C library's time zone"
)]

use std::mem::MaybeUninit;

/// The last local midnight at or before `now`, both in seconds since the epoch. `None` if the C library cannot tell.
pub(crate) fn midnight(now: i64) -> Option<i64> {
    let mut fields = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live local values of the right types.
    let filled = unsafe { libc::localtime_r(&raw const now, fields.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r succeeded, so it has written all fields.
    let mut fields = unsafe { fields.assume_init() };
    fields.tm_sec = 0;
    fields.tm_min = 0;
    fields.tm_hour = 0;
    fields.tm_isdst = -1;
    // SAFETY: the pointer is to a live value; mktime may normalise its fields.
    let midnight = unsafe { libc::mktime(&raw mut fields) };
    (midnight != -1).then_some(midnight)
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
