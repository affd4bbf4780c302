//! How large a sample may be, and why it is of no use.

use thiserror::Error;

/// Longest key in bytes. The field of a status message that carries keys has 256 bytes, NUL included.
pub const MAX_KEY_SIZE: usize = 255;

/// Largest value in bytes, as for status messages.
pub const MAX_VALUE_SIZE: usize = 4095;

/// Why a sample is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SampleError {
    /// A key of more than [`MAX_KEY_SIZE`] bytes.
    #[error("key of {0} bytes, at most {MAX_KEY_SIZE} are allowed")]
    KeyTooLong(usize),
    /// The key's text up to the first slash names no schema.
    #[error("unknown schema")]
    UnknownSchema,
    /// More or fewer names behind the schema than [`name_count`](crate::schema::Schema::name_count).
    #[error("{found} names instead of {expected}")]
    WrongNameCount {
        /// Names that the schema has.
        expected: usize,
        /// Names found.
        found: usize,
    },
    /// A name is empty, `.`, `..`, or holds a NUL or another control byte.
    #[error("'{}' is no name", .0.escape_ascii())]
    BadName(Box<[u8]>),
    /// A value of more than [`MAX_VALUE_SIZE`] bytes.
    #[error("value of {0} bytes, at most {MAX_VALUE_SIZE} are allowed")]
    ValueTooLong(usize),
    /// The value ends within the live columns.
    #[error("the value ends before its time")]
    NoTime,
    /// The first byte that is no part of a number, of `U` or of a separator in any notation RRD knows.
    #[error("byte {0:#04x} in the columns for RRD")]
    BadByte(u8),
    /// As many columns as the file has sources are needed.
    #[error("{found} columns after the time, the file has {expected}")]
    WrongColumnCount {
        /// Sources of the schema.
        expected: usize,
        /// Columns of the text.
        found: usize,
    },
}
