//! The text that RRD takes, made out of the value that was sent.
//!
//! Values are kept for the dump and sent to the other nodes as they came. The C daemon cuts columns that it does not
//! know by writing a NUL into that very buffer, and into the last known column when there is nothing to cut, so each
//! node that a value passes takes a digit away. Nothing here can change its input: what is cut is borrowed, what is
//! padded is copied.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use thiserror::Error;

use crate::key::Generation;
use crate::schema::Schema;

/// Largest value in bytes, as for status messages. It also keeps an update within a line of rrdcached's protocol.
pub const MAX_VALUE_SIZE: usize = 4095;

/// Why a value has no text for RRD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ColumnError {
    /// More than [`MAX_VALUE_SIZE`] bytes.
    #[error("value of {size} bytes, at most {MAX_VALUE_SIZE} are allowed")]
    TooLong {
        /// Length found.
        size: usize,
    },
    /// The value ends within the live columns.
    #[error("the value ends before the time, which is column {time_column}")]
    NoTime {
        /// Number of the column that holds the time, from 1.
        time_column: usize,
    },
    /// A byte that is no part of a number, of `U` or of a separator in any notation RRD knows.
    #[error("byte {byte:#04x} in the columns for RRD")]
    BadByte {
        /// The first one.
        byte: u8,
    },
    /// As many columns as the file has sources are needed.
    #[error("{found} columns after the time, the file has {expected}")]
    WrongCount {
        /// Sources of the schema.
        expected: usize,
        /// Columns of the text.
        found: usize,
    },
}

/// Makes the text for RRD: the live columns dropped, the sources that old senders lack appended as unknown, the columns
/// of later versions cut. A value ends at its first NUL.
///
/// The number of columns is not checked here, see [`check_count`].
///
/// # Errors
/// [`ColumnError::TooLong`], [`ColumnError::NoTime`] or [`ColumnError::BadByte`].
pub fn update_text(
    schema: Schema,
    generation: Generation,
    value: &[u8],
) -> Result<Cow<'_, str>, ColumnError> {
    if value.len() > MAX_VALUE_SIZE {
        return Err(ColumnError::TooLong { size: value.len() });
    }
    let mut columns = value.split(|byte| *byte == 0).next().unwrap_or_default();
    for _ in 0..schema.live_column_count() {
        columns = skip_column(columns);
    }
    if columns.is_empty() {
        let time_column = schema.live_column_count().saturating_add(1);
        return Err(ColumnError::NoTime { time_column });
    }
    if generation == Generation::Other {
        columns = cut(columns, schema.sources().len());
    }
    let text = graphic_ascii(columns)?;
    Ok(match generation {
        Generation::Old if schema.appended_source_count() > 0 => {
            Cow::Owned(pad(text, schema.appended_source_count()))
        }
        Generation::Old | Generation::Current | Generation::Other => Cow::Borrowed(text),
    })
}

/// Checks that a text has one column per source.
///
/// librrd checks this itself. rrdcached does not when it accepts an update: it finds out when it writes, and then gives
/// up the good values that it holds for that file behind the bad one.
///
/// # Errors
/// [`ColumnError::WrongCount`].
pub fn check_count(schema: Schema, text: &str) -> Result<(), ColumnError> {
    let expected = schema.sources().len();
    let found = text.bytes().filter(|byte| *byte == b':').count();
    if found == expected {
        Ok(())
    } else {
        Err(ColumnError::WrongCount { expected, found })
    }
}

/// The time of an update text in whole seconds since the epoch, if it is a plain number.
#[must_use]
pub fn sample_time(text: &str) -> Option<i64> {
    let time = text.split(':').next()?;
    let seconds = time.split('.').next()?;
    seconds.parse().ok()
}

/// What follows the first separator; nothing if there is none.
fn skip_column(columns: &[u8]) -> &[u8] {
    columns
        .splitn(2, |byte| *byte == b':')
        .nth(1)
        .unwrap_or_default()
}

/// The time and `source_count` columns. Cuts at the separator after the last of them, if there is one.
fn cut(columns: &[u8], source_count: usize) -> &[u8] {
    let mut separators = columns
        .iter()
        .enumerate()
        .filter_map(|(offset, byte)| (*byte == b':').then_some(offset));
    separators
        .nth(source_count)
        .and_then(|end| columns.get(..end))
        .unwrap_or(columns)
}

fn pad(text: &str, unknown_count: usize) -> String {
    let mut padded = String::from(text);
    padded.extend(std::iter::repeat_n(":U", unknown_count));
    padded
}

fn graphic_ascii(columns: &[u8]) -> Result<&str, ColumnError> {
    let bad = columns.iter().find(|byte| !byte.is_ascii_graphic());
    match (bad, str::from_utf8(columns)) {
        (None, Ok(text)) => Ok(text),
        (bad, _) => Err(ColumnError::BadByte {
            byte: bad.copied().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Generation::{Current, Old, Other};

    #[test]
    fn rules_of_each_key() {
        let cases: [(&str, Schema, Generation, &[u8], &str); 16] = [
            (
                "old node",
                Schema::Node,
                Old,
                b"9:0:5:1",
                "5:1:U:U:U:U:U:U:U",
            ),
            ("node", Schema::Node, Current, b"9:0:5:1:2", "5:1:2"),
            (
                "node, few columns",
                Schema::Node,
                Other,
                b"9:0:5:1:0.02",
                "5:1:0.02",
            ),
            (
                "old vm",
                Schema::Vm,
                Old,
                b"9:n:r:0:5:1",
                "5:1:U:U:U:U:U:U:U",
            ),
            ("vm", Schema::Vm, Current, b"9:n:r:0:5:1", "5:1"),
            ("old storage", Schema::Storage, Old, b"5:10:20", "5:10:20"),
            (
                "storage",
                Schema::Storage,
                Current,
                b"5:10:20:30",
                "5:10:20:30",
            ),
            (
                "storage, exact",
                Schema::Storage,
                Other,
                b"5:1000:500",
                "5:1000:500",
            ),
            (
                "storage, one more",
                Schema::Storage,
                Other,
                b"5:1000:500:7",
                "5:1000:500",
            ),
            (
                "storage, more",
                Schema::Storage,
                Other,
                b"5:10:20:7:8:9",
                "5:10:20",
            ),
            (
                "storage, empty one more",
                Schema::Storage,
                Other,
                b"5:10:20:",
                "5:10:20",
            ),
            (
                "storage, one less",
                Schema::Storage,
                Other,
                b"5:1000",
                "5:1000",
            ),
            (
                "ends at NUL",
                Schema::Storage,
                Current,
                b"5:1:2\0:9",
                "5:1:2",
            ),
            ("no NUL", Schema::Storage, Current, b"5:1:2", "5:1:2"),
            (
                "any bytes in live columns",
                Schema::Vm,
                Current,
                b"9:a b\xff:\n:0:5:1",
                "5:1",
            ),
            (
                "garbage is RRD's to refuse",
                Schema::Node,
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
        let cases: [(&str, Schema, &[u8], ColumnError); 10] = [
            (
                "empty",
                Schema::Storage,
                b"",
                ColumnError::NoTime { time_column: 1 },
            ),
            (
                "only a NUL",
                Schema::Storage,
                b"\0",
                ColumnError::NoTime { time_column: 1 },
            ),
            (
                "one live column",
                Schema::Node,
                b"9",
                ColumnError::NoTime { time_column: 3 },
            ),
            (
                "live columns only",
                Schema::Node,
                b"9:0",
                ColumnError::NoTime { time_column: 3 },
            ),
            (
                "empty time at the end",
                Schema::Node,
                b"9:0:",
                ColumnError::NoTime { time_column: 3 },
            ),
            (
                "NUL in live columns",
                Schema::Vm,
                b"9:a\0:b:c:5",
                ColumnError::NoTime { time_column: 5 },
            ),
            (
                "line feed",
                Schema::Storage,
                b"5:1:2\nFLUSHALL",
                ColumnError::BadByte { byte: b'\n' },
            ),
            (
                "blank",
                Schema::Storage,
                b"5:1:2 6:1:2",
                ColumnError::BadByte { byte: b' ' },
            ),
            (
                "high byte",
                Schema::Storage,
                b"5:1:\xe9",
                ColumnError::BadByte { byte: 0xe9 },
            ),
            (
                "too long",
                Schema::Storage,
                &too_long,
                ColumnError::TooLong { size: 4096 },
            ),
        ];
        for (name, schema, value, error) in cases {
            assert_eq!(update_text(schema, Current, value), Err(error), "{name}");
        }
    }

    #[test]
    fn counts_are_those_of_the_schema() {
        for schema in Schema::ALL {
            let expected = schema.sources().len();
            let exact = format!("5{}", ":U".repeat(expected));
            assert_eq!(check_count(schema, &exact), Ok(()));
            for (text, found) in [(format!("{exact}:U"), expected + 1), ("5".into(), 0)] {
                assert_eq!(
                    check_count(schema, &text),
                    Err(ColumnError::WrongCount { expected, found })
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
