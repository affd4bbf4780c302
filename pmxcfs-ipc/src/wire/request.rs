//! The header in front of every request.

use super::{DecodeError, i32_at};

/// Size of the request header, in bytes.
pub const REQUEST_HEADER_SIZE: usize = 16;

/// Message id that asks the transport for a disconnect.
pub const DISCONNECT_ID: i32 = -3;

/// Reads the header of a request (`qb_ipc_request_header`). Returns the operation number and the body that the header
/// announces. Bytes behind the announced size are ignored.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 4 | i32 | message id |
/// | 4 | 4 | - | padding, any bytes |
/// | 8 | 4 | i32 | size of header and body |
/// | 12 | 4 | - | padding, any bytes |
///
/// # Errors
/// [`DecodeError::Short`] and [`DecodeError::Size`]; the size must be at least 16 and at most what arrived.
pub fn decode(message: &[u8]) -> Result<(i32, &[u8]), DecodeError> {
    let received = message.len();
    let short = DecodeError::Short { received };
    if received < REQUEST_HEADER_SIZE {
        return Err(short);
    }
    let id = i32_at(message, 0).ok_or(short)?;
    let size = i32_at(message, 8).ok_or(short)?;
    let wrong_size = DecodeError::Size { size, received };
    let end = usize::try_from(size).ok().ok_or(wrong_size)?;
    let body = message.get(REQUEST_HEADER_SIZE..end).ok_or(wrong_size)?;
    Ok((id, body))
}
