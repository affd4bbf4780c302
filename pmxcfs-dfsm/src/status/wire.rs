//! Messages of the status group.

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::{DecodeError, take};

/// Subtype of a key and its value.
pub const UPDATE: u16 = 1;

/// Subtype of an entry of the cluster log. Its payload is passed on as it is: the log knows the format.
pub const LOG: u16 = 3;

/// Length of the key field in bytes.
const KEY_LENGTH: usize = 256;

/// A key and its value, subtype 1.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 256 | key, NUL; C senders leave bytes of their memory behind the NUL |
/// | 256 | | value |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMessage {
    /// At most 255 bytes, without NUL.
    pub key: Bytes,
    /// Empty removes the key.
    pub value: Bytes,
}

impl UpdateMessage {
    /// Reads the payload of a message of subtype 1.
    ///
    /// # Errors
    /// Fewer than 256 bytes, a key field without NUL.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = payload.clone();
        let field = take(&mut rest, KEY_LENGTH)?;
        let end = field.iter().position(|byte| *byte == 0);
        let key = field.slice(..end.ok_or(DecodeError::Unterminated)?);
        Ok(Self { key, value: rest })
    }

    /// The payload to send. A longer key is cut to 255 bytes, and one with a NUL before it.
    pub fn encode(&self) -> Bytes {
        let key = self.key.iter().take(KEY_LENGTH - 1);
        let mut field = [0; KEY_LENGTH];
        for (place, byte) in field.iter_mut().zip(key.take_while(|byte| **byte != 0)) {
            *place = *byte;
        }
        let mut buffer = BytesMut::with_capacity(KEY_LENGTH + self.value.len());
        buffer.put_slice(&field);
        buffer.put_slice(&self.value);
        buffer.freeze()
    }
}
