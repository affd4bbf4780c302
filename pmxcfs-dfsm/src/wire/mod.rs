//! What travels in the groups, below the applications.
//!
//! Decoders take bytes of anybody who can join the group. They never trust a length, never panic, and give one error per
//! way to be wrong. All integers are little-endian and nothing is padded; payloads are shared, not copied.

mod header;
mod normal;
mod reader;
mod state;

pub use header::{HEADER_LENGTH, Header, MessageKind};
pub use normal::{NORMAL_HEADER_LENGTH, NormalMessage};
pub(crate) use reader::{Reader, cut_terminator};
pub use state::{Epoch, STATE_HEADER_LENGTH, StateMessage, VerifyMessage};

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the fixed fields have.
    #[error("{actual} bytes where at least {needed} are needed")]
    Short {
        /// Length of the fixed fields.
        needed: usize,
        /// Length of what was received.
        actual: usize,
    },
    /// The length fields do not add up to the length of the message.
    #[error("lengths add up to {stated} bytes, there are {actual}")]
    Length {
        /// Sum of all length fields and of the fixed fields, in 64 bits.
        stated: u64,
        /// Length of what was received.
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
