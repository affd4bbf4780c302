//! Numbers for people.

/// A duration of so many nanoseconds, in three digits or little more.
pub(super) fn nanos(nanos: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (60_000_000_000, "s"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    for (index, (size, unit)) in UNITS.into_iter().enumerate() {
        if nanos >= size {
            return match index {
                0 => format!("{} {unit}", nanos / 1_000_000_000),
                _ => format!("{} {unit}", decimal(nanos, size)),
            };
        }
    }
    format!("{nanos} ns")
}

/// A size in bytes.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let unit = UNITS.into_iter().find(|(size, _)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(size, unit)| format!("{} {unit}", decimal(bytes, size)),
    )
}

/// A long time, in its two largest units.
pub(super) fn seconds(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// How many, with the right form of the word.
pub(super) fn count(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

/// Text that comes from elsewhere, without what would confuse a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            '?'
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

/// A number in a unit, with one digit behind the point while it is small.
fn decimal(number: u64, unit: u64) -> String {
    if number >= unit.saturating_mul(100) {
        return (number / unit).to_string();
    }
    let tenths = u128::from(number) * 10 / u128::from(unit);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_size() {
        for (value, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 us"),
            (12_345, "12.3 us"),
            (123_456, "123 us"),
            (1_999_999, "1.9 ms"),
            (59_999_999_999, "59.9 s"),
            (61_000_000_000, "61 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            assert_eq!(nanos(value), text);
        }
        for (value, text) in [
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (123 << 10, "123 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(seconds(value), text);
        }
        assert_eq!(count(1, "member"), "1 member");
        assert_eq!(count(0, "member"), "0 members");
    }

    #[test]
    fn terminals_are_not_confused() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a?[2Jb?c");
    }
}
