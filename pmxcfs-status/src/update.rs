//! UPDATE messages: a status value on its way to the other members.

use bytes::Bytes;
use pmxcfs_api_types::NodeId;

/// Size of the key field in bytes, the key's NUL included.
pub const KEY_FIELD_SIZE: usize = 256;

/// Why a received update changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The sender is not in the node list, or there is no node list.
    #[error("status update of node {0}, which is not in the node list")]
    UnknownSender(NodeId),
    /// An `rrd/` or `nodeip` value is empty, too long, or does not end with a NUL.
    #[error("malformed status value")]
    BadValue,
    /// The table of the sender, or that of RRD values, is full.
    #[error("too many or too large status values")]
    LimitReached,
}

/// Why bytes are not an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdatePayloadError {
    /// Shorter than the key field.
    #[error("status update of {0} bytes")]
    Truncated(usize),
    /// The key field has no NUL.
    #[error("unterminated key in status update")]
    UnterminatedKey,
}

/// What follows the header of an UPDATE message.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 256 | key, NUL, anything; zeros are sent |
/// | 256 | | value, any length |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Key, at most 255 bytes, without NUL.
    pub key: Bytes,
    /// Value; empty removes the key.
    pub value: Bytes,
}

impl Update {
    /// Decodes a payload.
    ///
    /// # Errors
    /// If it is shorter than the key field, or the key field has no NUL.
    pub fn decode(payload: &Bytes) -> Result<Self, UpdatePayloadError> {
        let field = payload
            .get(..KEY_FIELD_SIZE)
            .ok_or(UpdatePayloadError::Truncated(payload.len()))?;
        let length = memchr::memchr(0, field).ok_or(UpdatePayloadError::UnterminatedKey)?;
        Ok(Self {
            key: payload.slice(..length),
            value: payload.slice(KEY_FIELD_SIZE..),
        })
    }

    /// Encodes a payload. Keys are cut to 255 bytes and at their first NUL.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = memchr::memchr(0, &self.key)
            .unwrap_or(self.key.len())
            .min(KEY_FIELD_SIZE - 1);
        let mut out = Vec::with_capacity(KEY_FIELD_SIZE + self.value.len());
        out.extend_from_slice(&self.key[..length]);
        out.resize(KEY_FIELD_SIZE, 0);
        out.extend_from_slice(&self.value);
        out.into()
    }
}
