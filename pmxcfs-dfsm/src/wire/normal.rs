//! Messages of the applications.

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

use super::{DecodeError, Header, MessageKind};

/// Length of header and message count in bytes.
const HEADER_LENGTH: usize = 24;

/// A message of kind 0.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | common header |
/// | 16 | 8 | message count: 1 for the first message of a process, one more for each further one |
/// | 24 | | the application's message |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalMessage {
    /// The common header.
    pub header: Header,
    /// Counted per process and group, also over rejoins.
    pub count: u64,
    /// The application's message.
    pub payload: Bytes,
}

impl NormalMessage {
    /// A message as this daemon sends it.
    pub const fn new(
        protocol: u32,
        subtype: u16,
        time_secs: u32,
        count: u64,
        payload: Bytes,
    ) -> Self {
        let header = Header {
            kind: MessageKind::Normal,
            subtype,
            protocol,
            time_secs,
            reserved: 0,
        };
        Self {
            header,
            count,
            payload,
        }
    }

    /// Reads a message of kind 0.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for fewer than 24 bytes.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = message.clone();
        Ok(Self {
            header: Header::read(&mut rest)?,
            count: rest.try_get_u64_le()?,
            payload: rest,
        })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(HEADER_LENGTH + self.payload.len());
        self.header.encode(&mut buffer);
        buffer.put_u64_le(self.count);
        buffer.put_slice(&self.payload);
        buffer.freeze()
    }
}
