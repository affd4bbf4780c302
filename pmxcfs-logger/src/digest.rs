//! FNV-1a digests that stand for node names and users in entries.

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Length field of a text that is too long to be kept whole: 254 bytes and a NUL.
pub(crate) const MAX_FIELD_LENGTH: usize = 255;

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(OFFSET_BASIS, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

/// Digest of a node name or user in an entry: FNV-1a, 64 bit, over the text with its NUL, or over the first 255 bytes
/// of a longer text.
pub fn text_digest(text: &[u8]) -> u64 {
    fnv1a(text.iter().copied().chain([0]).take(MAX_FIELD_LENGTH))
}

/// Digest of a user that a dump is filtered by: over all its bytes and the NUL, so that a user of 255 bytes or more
/// matches no entry.
pub fn user_digest(user: &[u8]) -> u64 {
    fnv1a(user.iter().copied().chain([0]))
}
