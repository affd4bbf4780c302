//! Names of saves: dates in UTC, so that they sort by age.

/// Seconds since 1970 as `YYYYMMDD-HHMMSSZ`.
pub(super) fn stamp(secs: u32) -> String {
    let (days, second) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}Z")
}

/// Whether a name is a stamp, with or without a number behind it.
pub(super) fn is_stamp(name: &str) -> bool {
    let shape = |pattern: &str| {
        name.len() == pattern.len()
            && name.bytes().zip(pattern.bytes()).all(|(byte, wanted)| {
                if wanted == b'0' {
                    byte.is_ascii_digit()
                } else {
                    byte == wanted
                }
            })
    };
    shape("00000000-000000Z") || shape("00000000-000000Z-000")
}

/// Year, month and day of a number of days since 1970.
fn date(mut days: u32) -> (u32, u32, u32) {
    let mut year = 1970;
    while days >= 365 + leap_day(year) {
        days -= 365 + leap_day(year);
        year += 1;
    }
    let mut month = 1;
    let february = 28 + leap_day(year);
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn leap_day(year: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    u32::from(is_leap)
}

#[cfg(test)]
mod tests {
    use super::{is_stamp, stamp};

    #[test]
    fn stamps_are_dates_in_utc() {
        for (secs, expected) in [
            (0, "19700101-000000Z"),
            (951_782_399, "20000228-235959Z"),
            (951_782_400, "20000229-000000Z"),
            (951_868_800, "20000301-000000Z"),
            (1_795_409_368, "20261123-044928Z"),
            (4_107_542_399, "21000228-235959Z"),
            (4_107_542_400, "21000301-000000Z"),
            (u32::MAX, "21060207-062815Z"),
        ] {
            assert_eq!(stamp(secs), expected);
            assert!(is_stamp(expected));
        }
    }

    #[test]
    fn other_names_are_no_stamps() {
        for name in [
            "",
            "INDEX",
            "19700101-000000",
            "1970010a-000000Z",
            "19700101-000000Z-1",
        ] {
            assert!(!is_stamp(name), "{name}");
        }
        assert!(is_stamp("19700101-000000Z-012"));
    }
}
