//! The header in front of every response.

use super::put;

/// Size of the response header, in bytes.
pub const RESPONSE_HEADER_SIZE: usize = 24;

/// The header of a response (`qb_ipc_response_header`), as the server sends it.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 4 | i32 | message id of the request |
/// | 4 | 4 | - | padding, 0 |
/// | 8 | 4 | i32 | size of header and body |
/// | 12 | 4 | - | padding, 0 |
/// | 16 | 4 | i32 | 0 or a negative errno |
/// | 20 | 4 | - | padding, 0 |
pub fn encode(id: i32, size: i32, error: i32) -> [u8; RESPONSE_HEADER_SIZE] {
    let mut bytes = [0; RESPONSE_HEADER_SIZE];
    put(&mut bytes, 0, &id.to_le_bytes());
    put(&mut bytes, 8, &size.to_le_bytes());
    put(&mut bytes, 16, &error.to_le_bytes());
    bytes
}
