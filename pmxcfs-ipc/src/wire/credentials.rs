//! The kernel's note of who has sent a datagram.

use super::{i32_at, u32_at};

/// Process id and user id in the `SCM_CREDENTIALS` message at the start of a control buffer; `None` if there is another
/// message or none. What follows, or was cut off for lack of room, does not matter.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 8 | u64 | length, 28 |
/// | 8 | 4 | i32 | level, `SOL_SOCKET` |
/// | 12 | 4 | i32 | type, `SCM_CREDENTIALS` |
/// | 16 | 4 | i32 | process id |
/// | 20 | 4 | u32 | user id |
/// | 24 | 4 | u32 | group id |
pub(crate) fn decode(control: &[u8]) -> Option<(i32, u32)> {
    let is_credentials = i32_at(control, 0)? == 28
        && i32_at(control, 8)? == libc::SOL_SOCKET
        && i32_at(control, 12)? == libc::SCM_CREDENTIALS;
    is_credentials.then_some((i32_at(control, 16)?, u32_at(control, 20)?))
}
