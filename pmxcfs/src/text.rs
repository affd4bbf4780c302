//! How numbers, names, times, contents and digests are shown.
//!
//! Names and contents come from any writer of the filesystem and go to terminals. Unprintable characters are escaped so that
//! the text stands for exactly one sequence of bytes.

use std::error::Error;
use std::fmt::{Display, Write as _};

use anyhow::Chain;
pub(crate) use pmxcfs_api_types::time::utc as time;
use pmxcfs_memdb::RootState;
use sha2::{Digest as _, Sha256};

/// A name: UTF-8 as it is; `\xNN` for other bytes, unprintable characters and slashes; `\\` for a backslash.
pub(crate) fn escape_name(name: &[u8]) -> String {
    escape(name, &['/'])
}

/// As [`escape_name`], with slashes as they are.
pub(crate) fn escape_path(path: &[u8]) -> String {
    escape(path, &[])
}

fn escape(bytes: &[u8], also: &[char]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                character if is_printable(character) && !also.contains(&character) => {
                    text.push(character);
                }
                character => push_bytes(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

fn is_printable(character: char) -> bool {
    // What `Debug` leaves alone is printable; quotes are, too.
    matches!(character, '\'' | '"') || character.escape_debug().len() == 1
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _written = write!(text, "\\x{byte:02x}");
    }
}

/// SHA-256 of a content in hexadecimal digits.
pub(crate) fn content_digest(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// The first digits of that, enough to distinguish contents by eye.
pub(crate) fn short_digest(content: &[u8]) -> String {
    format!("{:.16x}", Sha256::digest(content))
}

/// State of a database in words.
pub(crate) fn root_state(root: RootState) -> String {
    format!(
        "version {}, writer {}, {}",
        root.version,
        root.writer,
        time(root.mtime)
    )
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<String> = Chain::new(error).map(ToString::to_string).collect();
    causes.join(": ")
}

/// How many, with the right form of the word: "1 entry", "2 entries".
pub(crate) fn count(number: impl Display + PartialEq + From<u8>, word: &str) -> String {
    match word.strip_suffix('y') {
        _ if number == 1.into() => format!("{number} {word}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {word}s"),
    }
}

/// A duration of so many nanoseconds, in three digits or little more.
pub(crate) fn nanos(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "us"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => decimal(nanos, 1_000_000_000, "s"),
        _ => format!("{} s", nanos / 1_000_000_000),
    }
}

/// A size in bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes.checked_ilog2().unwrap_or_default() {
        0..10 => format!("{bytes} B"),
        10..20 => decimal(bytes, 1 << 10, "KiB"),
        20..30 => decimal(bytes, 1 << 20, "MiB"),
        30..40 => decimal(bytes, 1 << 30, "GiB"),
        _ => decimal(bytes, 1 << 40, "TiB"),
    }
}

/// A long time, in its two largest units.
pub(crate) fn seconds(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Text from elsewhere, without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// A number in a unit, with one digit behind the point while it is small.
fn decimal(number: u64, size: u64, unit: &str) -> String {
    let whole = number / size;
    if whole >= 100 {
        return format!("{whole} {unit}");
    }
    let tenths = u128::from(number) * 10 / u128::from(size) % 10;
    format!("{whole}.{tenths} {unit}")
}

/// Lines that are shown of a longer list.
const SHOWN_LINES: usize = 20;

/// The first lines of a list, and how many there are behind them.
pub(crate) fn abridged(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(SHOWN_LINES).cloned().collect();
    if lines.len() > SHOWN_LINES {
        shown.push(format!("and {} more", lines.len() - SHOWN_LINES));
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_escaped_as_documented() {
        let table: [(&[u8], &str); 7] = [
            (b"100.conf", "100.conf"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"a\\b", "a\\\\b"),
            (b"a/b\0", "a\\x2fb\\x00"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            (b"\x1b[2J\n", "\\x1b[2J\\x0a"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
        ];
        for (name, text) in table {
            assert_eq!(escape_name(name), text);
        }
    }

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
        assert_eq!(count(1_u64, "entry"), "1 entry");
        assert_eq!(count(0_u64, "entry"), "0 entries");
        assert_eq!(count(2_u64, "member"), "2 members");
        assert_eq!(count(2_u64, "directory"), "2 directories");
    }

    #[test]
    fn terminals_are_not_confused() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a?[2Jb?c");
    }

    /// Undoes [`escape_name`].
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = match (first, tail) {
                (b'\\', [b'\\', tail @ ..]) => {
                    bytes.push(b'\\');
                    tail
                }
                (b'\\', [b'x', high, low, tail @ ..]) => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                    tail
                }
                _ => {
                    bytes.push(*first);
                    tail
                }
            };
        }
        bytes
    }

    proptest! {
        #[test]
        fn no_byte_of_a_name_is_lost(name in proptest::collection::vec(any::<u8>(), 0..40), text in ".{0,20}") {
            for name in [&name[..], text.as_bytes()] {
                let escaped = escape_name(name);
                prop_assert_eq!(unescape(&escaped), name);
                prop_assert!(!escaped.contains('/') && !escaped.chars().any(char::is_control));
            }
        }
    }
}
