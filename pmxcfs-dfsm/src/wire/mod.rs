//! Messages of both groups, without the applications' part.
//!
//! Decoders take bytes of any process that can join the group. They never trust a length, never panic, and give one error per
//! way to be wrong. All integers are little-endian and nothing is padded; payloads are shared, not copied.

mod header;
mod normal;
mod state;

pub use header::{Header, MessageKind};
pub use normal::NormalMessage;
pub use state::{Epoch, StateMessage, VerifyMessage};

use bytes::{Bytes, TryGetError};

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends within a field.
    #[error("{actual} bytes are left where a field has {needed}")]
    Short {
        /// Length of the field.
        needed: usize,
        /// Number of bytes left.
        actual: usize,
    },
    /// The length fields do not add up to the length of the message.
    #[error("lengths add up to {stated} bytes, there are {actual}")]
    Length {
        /// Sum of all length fields and of the fixed fields, in 64 bits.
        stated: u64,
        /// Length of the message.
        actual: usize,
    },
    /// A string whose last byte is not NUL.
    #[error("string without terminator")]
    Unterminated,
    /// A string field of length 0 where at least the terminator must be.
    #[error("string without bytes")]
    NoString,
    /// An entry that is neither directory nor file.
    #[error("entry type {0}")]
    EntryType(u8),
    /// An application message with an unknown number.
    #[error("unknown message number {0}")]
    Subtype(u16),
}

impl From<TryGetError> for DecodeError {
    fn from(error: TryGetError) -> Self {
        Self::Short {
            needed: error.requested,
            actual: error.available,
        }
    }
}

/// Takes the next `length` bytes.
pub(crate) fn take(rest: &mut Bytes, length: usize) -> Result<Bytes, DecodeError> {
    if length > rest.len() {
        return Err(DecodeError::Short {
            needed: length,
            actual: rest.len(),
        });
    }
    Ok(rest.split_to(length))
}

/// A string field: its last byte must be NUL, which is cut off. Bytes behind an earlier NUL are not seen by C peers.
pub(crate) fn cut_terminator(field: &Bytes) -> Result<Bytes, DecodeError> {
    match field.last() {
        None => Err(DecodeError::NoString),
        Some(0) => {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(0);
            Ok(field.slice(..end))
        }
        Some(_) => Err(DecodeError::Unterminated),
    }
}
