//! Reads fields off the front of bytes.

use bytes::Bytes;

use super::DecodeError;

/// The bytes that have not been read yet.
pub(crate) struct Reader<'a> {
    rest: &'a Bytes,
    position: usize,
}

impl<'a> Reader<'a> {
    /// A reader of bytes that have at least `needed` bytes, so that the fixed fields can be read without a test each.
    pub(crate) fn new(bytes: &'a Bytes, needed: usize) -> Result<Self, DecodeError> {
        if bytes.len() < needed {
            return Err(DecodeError::Short {
                needed,
                actual: bytes.len(),
            });
        }
        Ok(Self {
            rest: bytes,
            position: 0,
        })
    }

    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let end = self.position.checked_add(length);
        let Some(end) = end.filter(|end| *end <= self.rest.len()) else {
            return Err(DecodeError::Short {
                needed: length,
                actual: self.rest.len() - self.position,
            });
        };
        let taken = self.rest.slice(self.position..end);
        self.position = end;
        Ok(taken)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.rest.slice(self.position..)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.rest.get(self.position..).unwrap_or_default();
        let Some((field, _)) = rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Short {
                needed: N,
                actual: rest.len(),
            });
        };
        self.position += N;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// A string field: its last byte must be NUL, which is cut off. Bytes behind an earlier NUL are not seen by C peers.
pub(crate) fn cut_terminator(field: &Bytes) -> Result<Bytes, DecodeError> {
    match field.last() {
        None => Err(DecodeError::NoString),
        Some(0) => {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(0);
            Ok(field.slice(..end))
        }
        Some(_) => Err(DecodeError::Unterminated),
    }
}
