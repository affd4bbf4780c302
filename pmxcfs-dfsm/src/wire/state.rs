//! Messages of the synchronisation and of the verification.

use bytes::{Buf as _, BufMut, Bytes, BytesMut};
use pmxcfs_memdb::Digest;

use super::{DecodeError, Header, MessageKind};

/// Length of header and epoch in bytes.
const HEADER_LENGTH: usize = 32;

/// Name of one round of synchronisation. Two are the same if all fields are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Number of membership changes that its maker has seen.
    pub number: u32,
    /// When it was made, seconds.
    pub time_secs: u32,
    /// Node id of its maker.
    pub node: u32,
    /// Process id of its maker.
    pub pid: u32,
}

/// A message of any kind but 0.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | common header |
/// | 16 | 4 | epoch: number |
/// | 20 | 4 | epoch: seconds |
/// | 24 | 4 | epoch: node id |
/// | 28 | 4 | epoch: process id |
/// | 32 | | depends on the kind |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateMessage {
    /// The common header.
    pub header: Header,
    /// The round that the message belongs to.
    pub epoch: Epoch,
    /// The bytes behind header and epoch.
    pub payload: Bytes,
}

impl StateMessage {
    /// A message as this daemon sends it.
    pub const fn new(
        kind: MessageKind,
        protocol: u32,
        time_secs: u32,
        epoch: Epoch,
        payload: Bytes,
    ) -> Self {
        let header = Header {
            kind,
            subtype: 0,
            protocol,
            time_secs,
            reserved: 0,
        };
        Self {
            header,
            epoch,
            payload,
        }
    }

    /// Reads a message of any kind but 0.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for fewer than 32 bytes.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = message.clone();
        Ok(Self {
            header: Header::read(&mut rest)?,
            epoch: Epoch {
                number: rest.try_get_u32_le()?,
                time_secs: rest.try_get_u32_le()?,
                node: rest.try_get_u32_le()?,
                pid: rest.try_get_u32_le()?,
            },
            payload: rest,
        })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(HEADER_LENGTH + self.payload.len());
        self.header.encode(&mut buffer);
        buffer.put_u32_le(self.epoch.number);
        buffer.put_u32_le(self.epoch.time_secs);
        buffer.put_u32_le(self.epoch.node);
        buffer.put_u32_le(self.epoch.pid);
        buffer.put_slice(&self.payload);
        buffer.freeze()
    }
}

/// Payload of a verification: an id, and with [`MessageKind::Verify`] the checksum that belongs to it.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | id of the request |
/// | 8 | 32 | checksum, absent in the request |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyMessage {
    /// Number of the request, counted by its sender.
    pub id: u64,
    /// The sender's checksum; absent in the request.
    pub checksum: Option<Digest>,
}

impl VerifyMessage {
    /// Reads the payload of a request.
    ///
    /// # Errors
    /// Any length but 8.
    pub fn decode_request(payload: &Bytes) -> Result<Self, DecodeError> {
        let id = exactly(payload, 8)?.try_get_u64_le()?;
        Ok(Self { id, checksum: None })
    }

    /// Reads the payload that carries a checksum.
    ///
    /// # Errors
    /// Any length but 40.
    pub fn decode_checksum(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = exactly(payload, 40)?;
        let id = rest.try_get_u64_le()?;
        let mut checksum = Digest::default();
        rest.try_copy_to_slice(&mut checksum)?;
        Ok(Self {
            id,
            checksum: Some(checksum),
        })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(40);
        buffer.put_u64_le(self.id);
        if let Some(checksum) = &self.checksum {
            buffer.put_slice(checksum);
        }
        buffer.freeze()
    }
}

fn exactly(payload: &Bytes, length: usize) -> Result<&[u8], DecodeError> {
    if payload.len() != length {
        return Err(DecodeError::Length {
            stated: length as u64,
            actual: payload.len(),
        });
    }
    Ok(payload)
}
