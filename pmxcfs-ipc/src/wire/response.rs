//! The header in front of every response.

use super::put;

/// Size of the response header, in bytes.
pub const RESPONSE_HEADER_SIZE: usize = 24;

/// Header of a response (`qb_ipc_response_header`).
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 4 | i32 | message id of the request |
/// | 4 | 4 | - | padding, 0 |
/// | 8 | 4 | i32 | size of header and body |
/// | 12 | 4 | - | padding, 0 |
/// | 16 | 4 | i32 | 0 or a negative errno |
/// | 20 | 4 | - | padding, 0 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Message id of the request.
    pub id: i32,
    /// Size of header and body, in bytes.
    pub size: i32,
    /// 0 or a negative errno.
    pub error: i32,
}

impl ResponseHeader {
    /// The bytes that the server sends.
    #[must_use]
    pub fn encode(&self) -> [u8; RESPONSE_HEADER_SIZE] {
        let mut bytes = [0; RESPONSE_HEADER_SIZE];
        put(&mut bytes, 0, &self.id.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.error.to_le_bytes());
        bytes
    }
}
