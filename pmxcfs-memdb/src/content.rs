//! How a write changes the content of a file.
//!
//! The tree, the crash journal's replay and the orphans all lay bytes over a former content. They do it with one
//! function, so that a replayed [`Change::Content`](crate::Change::Content) cannot differ from what the tree did.
//!
//! A buffer that nobody else holds is changed in place and keeps its spare capacity: a small write to a large file
//! costs the bytes written, and appending is amortised. A buffer that a reader or the store still holds is copied.

use bytes::{Bytes, BytesMut};
use pmxcfs_api_types::{FsError, limits::MAX_FILE_SIZE};

use crate::entry::{Entry, ZEROS};

/// Spare capacity in bytes that a buffer may always keep after it was cut.
const SPARE_SIZE: usize = 4096;

/// Content of a file after a [`Change::Content`](crate::Change::Content), from the content before it.
///
/// The first `keep` bytes of `former` stay at most; zeros up to `offset` and `data` follow or are laid over; the result
/// is cut or filled with zeros to `size` bytes. **If neither a former byte nor `data` is left, there is no content at
/// all, whatever `size` says**: that is how a file with a size and no data (a hole) arises.
#[must_use]
pub fn splice(former: Bytes, keep: u32, offset: u32, data: &[u8], size: u32) -> Bytes {
    let (offset, size) = (offset as usize, size as usize);
    let keep = former.len().min(keep as usize).min(size);
    if size == 0 || (keep == 0 && data.is_empty()) {
        return Bytes::new();
    }
    let offset = offset.min(size);
    let data = &data[..data.len().min(size - offset)];

    let mut buffer = writable(former, keep, size);
    if buffer.len() < offset {
        buffer.resize(offset, 0);
    }
    let overlap = data.len().min(buffer.len() - offset);
    let (over, behind) = data.split_at(overlap);
    buffer[offset..offset + overlap].copy_from_slice(over);
    buffer.extend_from_slice(behind);
    buffer.resize(size, 0);
    buffer.freeze()
}

/// The first `keep` bytes of `former` in a buffer that may be written to.
fn writable(former: Bytes, keep: usize, size: usize) -> BytesMut {
    match former.try_into_mut() {
        Ok(mut own) if own.capacity() <= SPARE_SIZE + 2 * size => {
            own.truncate(keep);
            own
        }
        Ok(oversized) => copy(&oversized[..keep], size),
        Err(shared) => copy(&shared[..keep], size),
    }
}

fn copy(start: &[u8], capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity);
    buffer.extend_from_slice(start);
    buffer
}

/// Where a write goes, within the size limit of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) offset: u32,
    /// Number of bytes.
    pub(crate) length: u32,
}

impl Extent {
    /// Checks offset and length, added in 64 bits, against the largest size of a file.
    pub(crate) fn new(offset: u64, length: usize) -> Result<Self, FsError> {
        let end = u64::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length))
            .filter(|end| *end <= MAX_FILE_SIZE);
        match (end, u32::try_from(offset), u32::try_from(length)) {
            (Some(_), Ok(offset), Ok(length)) => Ok(Self { offset, length }),
            _ => Err(FsError::TooBig),
        }
    }

    /// Size and number of kept bytes after writing here to a file that holds `held` bytes of data.
    ///
    /// A hole holds none, so a write to it starts from nothing, and its size can shrink by it.
    pub(crate) fn outcome(self, held: u32, truncate: bool) -> Outcome {
        let end = self.offset + self.length;
        let size = if truncate || end > held { end } else { held };
        Outcome {
            keep: held.min(size),
            size,
        }
    }
}

/// What a write leaves of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Bytes of the former content that stay at most.
    pub(crate) keep: u32,
    /// Size afterwards.
    pub(crate) size: u32,
}

impl Entry {
    /// The content as readers see it: the data, or as many zeros as a hole is large.
    #[must_use]
    pub fn content(&self) -> Bytes {
        let size = self.size as usize;
        if !self.data.is_empty() || size == 0 {
            return self.data.clone();
        }
        match ZEROS.get(..size) {
            Some(zeros) => Bytes::from_static(zeros),
            None => Bytes::from(vec![0; size]),
        }
    }

    /// Whether this is a file that has a size and no data. C peers make such files by growing an empty file; their
    /// digests cover the size and no data, so the tree keeps them as they are.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.size > 0 && self.data.is_empty()
    }

    /// Number of bytes of data.
    pub(crate) fn held(&self) -> u32 {
        if self.data.is_empty() { 0 } else { self.size }
    }

    /// Lays a write over the content.
    pub(crate) fn write(&mut self, extent: Extent, data: &[u8], truncate: bool) -> Outcome {
        let outcome = extent.outcome(self.held(), truncate);
        let former = std::mem::take(&mut self.data);
        self.data = splice(former, outcome.keep, extent.offset, data, outcome.size);
        self.size = outcome.size;
        outcome
    }
}
