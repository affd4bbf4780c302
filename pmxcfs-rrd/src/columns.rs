//! The text that RRD takes, made out of the value that was sent.
//!
//! Values are kept for the dump and sent to the other nodes as they came. The C daemon cuts columns that it does not
//! know by writing a NUL into that very buffer, and into the last known column when there is nothing to cut, so each
//! node that a value passes takes a digit away. Nothing here changes its input.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use pmxcfs_api_types::text::until_nul;

use crate::key::Generation;
use crate::sample::{MAX_VALUE_SIZE, SampleError};
use crate::schema::Schema;

/// Makes the text for RRD: drops the live columns, appends the sources that old senders lack as unknown, cuts the columns
/// of later versions. A value ends at its first NUL. [`check_count`] checks the number of columns.
///
/// # Errors
/// [`SampleError::ValueTooLong`], [`SampleError::NoTime`] or [`SampleError::BadByte`].
pub fn update_text(
    schema: &Schema,
    generation: Generation,
    value: &[u8],
) -> Result<String, SampleError> {
    if value.len() > MAX_VALUE_SIZE {
        return Err(SampleError::ValueTooLong(value.len()));
    }
    let mut columns =
        until_nul(value).splitn(schema.live_column_count.saturating_add(1), is_separator);
    let columns = columns.nth(schema.live_column_count).unwrap_or_default();
    if columns.is_empty() {
        return Err(SampleError::NoTime);
    }
    let mut known: Vec<&[u8]> = columns.split(is_separator).collect();
    match generation {
        Generation::Old => {
            let wanted = known.len().saturating_add(schema.appended_source_count);
            known.resize(wanted, b"U");
        }
        Generation::Current => {}
        Generation::Other => known.truncate(schema.sources.len().saturating_add(1)),
    }
    let text = known.join(&b':');
    match text.iter().find(|byte| !byte.is_ascii_graphic()) {
        Some(byte) => Err(SampleError::BadByte(*byte)),
        None => Ok(text.into_iter().map(char::from).collect()),
    }
}

/// Checks that a text has one column for each source.
///
/// librrd checks this itself. rrdcached does not when it accepts an update: it finds out when it writes, and then gives
/// up the good values that it holds for that file behind the bad one.
///
/// # Errors
/// [`SampleError::WrongColumnCount`].
pub fn check_count(schema: &Schema, text: &str) -> Result<(), SampleError> {
    let expected = schema.sources.len();
    let found = text.matches(':').count();
    if found == expected {
        Ok(())
    } else {
        Err(SampleError::WrongColumnCount { expected, found })
    }
}

/// The time of an update text in whole seconds since 1970, if it is a plain number.
pub fn sample_time(text: &str) -> Option<i64> {
    text.split([':', '.']).next()?.parse().ok()
}

fn is_separator(byte: &u8) -> bool {
    *byte == b':'
}

#[cfg(test)]
mod tests {
    use super::*;
    use Generation::{Current, Old, Other};

    #[test]
    fn rules_of_each_key() {
        let cases: [(&str, &Schema, Generation, &[u8], &str); 16] = [
            (
                "old node",
                &Schema::NODE,
                Old,
                b"9:0:5:1",
                "5:1:U:U:U:U:U:U:U",
            ),
            ("node", &Schema::NODE, Current, b"9:0:5:1:2", "5:1:2"),
            (
                "node, few columns",
                &Schema::NODE,
                Other,
                b"9:0:5:1:0.02",
                "5:1:0.02",
            ),
            (
                "old vm",
                &Schema::VM,
                Old,
                b"9:n:r:0:5:1",
                "5:1:U:U:U:U:U:U:U",
            ),
            ("vm", &Schema::VM, Current, b"9:n:r:0:5:1", "5:1"),
            ("old storage", &Schema::STORAGE, Old, b"5:10:20", "5:10:20"),
            (
                "storage",
                &Schema::STORAGE,
                Current,
                b"5:10:20:30",
                "5:10:20:30",
            ),
            (
                "storage, exact",
                &Schema::STORAGE,
                Other,
                b"5:1000:500",
                "5:1000:500",
            ),
            (
                "storage, one more",
                &Schema::STORAGE,
                Other,
                b"5:1000:500:7",
                "5:1000:500",
            ),
            (
                "storage, more",
                &Schema::STORAGE,
                Other,
                b"5:10:20:7:8:9",
                "5:10:20",
            ),
            (
                "storage, empty one more",
                &Schema::STORAGE,
                Other,
                b"5:10:20:",
                "5:10:20",
            ),
            (
                "storage, one less",
                &Schema::STORAGE,
                Other,
                b"5:1000",
                "5:1000",
            ),
            (
                "ends at NUL",
                &Schema::STORAGE,
                Current,
                b"5:1:2\0:9",
                "5:1:2",
            ),
            ("no NUL", &Schema::STORAGE, Current, b"5:1:2", "5:1:2"),
            (
                "any bytes in live columns",
                &Schema::VM,
                Current,
                b"9:a b\xff:\n:0:5:1",
                "5:1",
            ),
            (
                "garbage is RRD's to refuse",
                &Schema::NODE,
                Current,
                b"9:0:garbage",
                "garbage",
            ),
        ];
        for (name, schema, generation, value, expected) in cases {
            let text = update_text(schema, generation, value);
            assert_eq!(text.as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn refused_values() {
        let too_long = [b'1'; MAX_VALUE_SIZE + 1];
        let cases: [(&str, &Schema, &[u8], SampleError); 10] = [
            ("empty", &Schema::STORAGE, b"", SampleError::NoTime),
            ("only a NUL", &Schema::STORAGE, b"\0", SampleError::NoTime),
            ("one live column", &Schema::NODE, b"9", SampleError::NoTime),
            (
                "live columns only",
                &Schema::NODE,
                b"9:0",
                SampleError::NoTime,
            ),
            (
                "empty time at the end",
                &Schema::NODE,
                b"9:0:",
                SampleError::NoTime,
            ),
            (
                "NUL in live columns",
                &Schema::VM,
                b"9:a\0:b:c:5",
                SampleError::NoTime,
            ),
            (
                "line feed",
                &Schema::STORAGE,
                b"5:1:2\nFLUSHALL",
                SampleError::BadByte(b'\n'),
            ),
            (
                "blank",
                &Schema::STORAGE,
                b"5:1:2 6:1:2",
                SampleError::BadByte(b' '),
            ),
            (
                "high byte",
                &Schema::STORAGE,
                b"5:1:\xe9",
                SampleError::BadByte(0xe9),
            ),
            (
                "too long",
                &Schema::STORAGE,
                &too_long,
                SampleError::ValueTooLong(4096),
            ),
        ];
        for (name, schema, value, error) in cases {
            assert_eq!(update_text(schema, Current, value), Err(error), "{name}");
        }
    }

    #[test]
    fn counts_are_those_of_the_schema() {
        for schema in Schema::ALL {
            let expected = schema.sources.len();
            let exact = format!("5{}", ":U".repeat(expected));
            assert_eq!(check_count(schema, &exact), Ok(()));
            for (text, found) in [(format!("{exact}:U"), expected + 1), ("5".into(), 0)] {
                assert_eq!(
                    check_count(schema, &text),
                    Err(SampleError::WrongColumnCount { expected, found })
                );
            }
        }
    }

    #[test]
    fn times_of_texts() {
        let cases = [
            ("1795354405:1:2", Some(1_795_354_405)),
            ("1795354405.75:1", Some(1_795_354_405)),
            ("1795354405", Some(1_795_354_405)),
            ("-5:1", Some(-5)),
            ("N:1", None),
            (":1", None),
            ("", None),
            ("garbage:1", None),
            ("99999999999999999999:1", None),
        ];
        for (text, time) in cases {
            assert_eq!(sample_time(text), time, "{text:?}");
        }
    }
}
