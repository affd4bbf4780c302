//! The header that every message begins with.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use num_enum::{FromPrimitive, IntoPrimitive};

use super::DecodeError;

/// The purpose of a message. The numbers are the peers'; unknown ones stay representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromPrimitive, IntoPrimitive)]
#[repr(u16)]
pub enum MessageKind {
    /// A message of the application.
    Normal = 0,
    /// States are to be sent, in the epoch of this message.
    SyncStart = 1,
    /// The sender's data, or a description of them.
    State = 2,
    /// One entry that some member lacks.
    Update = 3,
    /// No more updates follow.
    UpdateComplete = 4,
    /// All members are to compute a checksum.
    VerifyRequest = 5,
    /// The checksum of the member that requested one.
    Verify = 6,
    /// Any other number.
    #[num_enum(catch_all)]
    Unknown(u16),
}

/// Start of every message.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 2 | kind |
/// | 2 | 2 | number of the application's message, 0 if the kind is not 0 |
/// | 4 | 4 | protocol version: 1 for the database, 0 for the status |
/// | 8 | 4 | sender's wall clock in seconds |
/// | 12 | 4 | 0 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its purpose.
    pub kind: MessageKind,
    /// Number of the application's message.
    pub subtype: u16,
    /// Protocol version of the sender.
    pub protocol: u32,
    /// Seconds. For normal messages the mtime that all members apply.
    pub time_secs: u32,
    /// Sent as 0, ignored.
    pub reserved: u32,
}

impl Header {
    /// Reads the header off a message.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for fewer than 16 bytes.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        Self::read(&mut &message[..])
    }

    pub(super) fn read(rest: &mut impl Buf) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: rest.try_get_u16_le()?.into(),
            subtype: rest.try_get_u16_le()?,
            protocol: rest.try_get_u32_le()?,
            time_secs: rest.try_get_u32_le()?,
            reserved: rest.try_get_u32_le()?,
        })
    }

    /// Appends the header.
    pub fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_u16_le(self.kind.into());
        buffer.put_u16_le(self.subtype);
        buffer.put_u32_le(self.protocol);
        buffer.put_u32_le(self.time_secs);
        buffer.put_u32_le(self.reserved);
    }
}
