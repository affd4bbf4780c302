//! The header that every message begins with.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::DecodeError;

/// The purpose of a message. The numbers are the peers'; unknown ones stay representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// 0: a message of the application.
    Normal,
    /// 1: states are to be sent, in the epoch of this message.
    SyncStart,
    /// 2: the sender's data, or a description of them.
    State,
    /// 3: one entry that some member lacks.
    Update,
    /// 4: no more updates follow.
    UpdateComplete,
    /// 5: all members are to compute a checksum.
    VerifyRequest,
    /// 6: the checksum of the member that requested one.
    Verify,
    /// Any other number.
    Unknown(u16),
}

impl MessageKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::SyncStart,
            2 => Self::State,
            3 => Self::Update,
            4 => Self::UpdateComplete,
            5 => Self::VerifyRequest,
            6 => Self::Verify,
            other => Self::Unknown(other),
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 0,
            Self::SyncStart => 1,
            Self::State => 2,
            Self::Update => 3,
            Self::UpdateComplete => 4,
            Self::VerifyRequest => 5,
            Self::Verify => 6,
            Self::Unknown(other) => other,
        }
    }
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
            kind: MessageKind::from_number(rest.try_get_u16_le()?),
            subtype: rest.try_get_u16_le()?,
            protocol: rest.try_get_u32_le()?,
            time_secs: rest.try_get_u32_le()?,
            reserved: rest.try_get_u32_le()?,
        })
    }

    /// Appends the header.
    pub fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_u16_le(self.kind.number());
        buffer.put_u16_le(self.subtype);
        buffer.put_u32_le(self.protocol);
        buffer.put_u32_le(self.time_secs);
        buffer.put_u32_le(self.reserved);
    }
}
