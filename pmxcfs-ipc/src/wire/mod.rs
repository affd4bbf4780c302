//! Everything whose bytes a libqb client can see, as plain encoders and decoders.
//!
//! Integers are in host byte order on the wire; only little-endian 64-bit machines are supported, and the numbers are
//! written little-endian explicitly. Padding is sent as zeros and ignored on arrival: clients send whatever was on
//! their stack.

pub mod address;
pub(crate) mod credentials;
pub mod request;
pub mod response;
pub mod ring_header;
pub mod setup;

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the layout of shared semaphores is known for 64-bit little-endian machines only");

/// Why bytes from a client were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part needs.
    #[error("message of {received} bytes is shorter than its header")]
    Short {
        /// Bytes that arrived.
        received: usize,
    },
    /// The size field is smaller than the header or larger than what arrived.
    #[error("size field says {size}, {received} bytes arrived")]
    Size {
        /// The field as sent.
        size: i32,
        /// Bytes that arrived.
        received: usize,
    },
    /// The first message on a stream socket is not a connection request.
    #[error("message id {id} is not a connection request")]
    NotConnect {
        /// The id as sent.
        id: i32,
    },
}

/// The little-endian number at `offset`, if it lies inside.
pub(crate) fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    u32_at(bytes, offset).map(u32::cast_signed)
}

/// The little-endian number at `offset`, if it lies inside.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

/// Writes `field` at `offset`; both are constants of a layout that fits.
pub(crate) fn put(bytes: &mut [u8], offset: usize, field: &[u8]) {
    bytes[offset..offset + field.len()].copy_from_slice(field);
}
