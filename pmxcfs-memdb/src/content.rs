//! How a write changes the content of a file.
//!
//! The tree, the crash journal's replay and the orphans all lay bytes over a former content. They do it with one
//! function, so that a replayed [`Change::Content`](crate::Change::Content) cannot differ from what the tree did.
//!
//! A buffer that nobody else holds is changed in place and keeps its spare capacity: a small write to a large file
//! costs the bytes written, and appending is amortised. A buffer that a reader or the store still holds is copied.

use bytes::{Bytes, BytesMut};
use pmxcfs_api_types::{FsError, Result, limits::MAX_FILE_SIZE};

use crate::entry::{Entry, ZEROS};

/// Spare capacity in bytes that a buffer may always keep after it was cut.
const SPARE_SIZE: usize = 4096;

/// Content of a file after a [`Change::Content`](crate::Change::Content), from the content before it.
///
/// The first `keep` bytes of `former` stay at most; zeros up to `offset` and `data` follow or are laid over; the result
/// is cut or filled with zeros to `size` bytes. **If neither a former byte nor `data` is left, there is no content at
/// all, whatever `size` says**: that is how a file with a size and no data (a hole) arises.
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
    pub(crate) fn new(offset: u64, length: usize) -> Result<Self> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Extent, splice};

    /// The definition of [`crate::Change::Content`], word for word.
    fn naive(former: &[u8], keep: usize, offset: usize, data: &[u8], size: usize) -> Vec<u8> {
        let mut content = former[..keep.min(former.len())].to_vec();
        if content.is_empty() && data.is_empty() {
            return content;
        }
        if content.len() < offset {
            content.resize(offset, 0);
        }
        for (index, byte) in data.iter().enumerate() {
            match content.get_mut(offset + index) {
                Some(place) => *place = *byte,
                None => content.push(*byte),
            }
        }
        content.resize(size, 0);
        content
    }

    proptest! {
        #[test]
        fn splice_does_what_its_definition_says(
            former in prop::collection::vec(1u8.., 0..20),
            keep in 0u32..25,
            offset in 0u32..25,
            data in prop::collection::vec(1u8.., 0..10),
            size in 0u32..40,
            shared: bool,
        ) {
            let expected = naive(&former, keep as usize, offset as usize, &data, size as usize);
            let content = Bytes::from(former.clone());
            let reader = shared.then(|| content.clone());
            // Former content that a smaller size leaves nothing of is gone before the data is laid over.
            prop_assume!(size > 0);
            prop_assert_eq!(&splice(content, keep, offset, &data, size), &expected);
            if let Some(reader) = reader {
                prop_assert_eq!(reader, former);
            }
        }
    }

    #[test]
    fn nothing_is_left_of_a_content_of_size_0() {
        assert_eq!(splice(Bytes::from_static(b"abc"), 3, 0, b"x", 0), "");
    }

    #[test]
    fn a_result_never_holds_more_than_its_size() {
        let content = splice(Bytes::from_static(b"abc"), u32::MAX, u32::MAX, b"xyz", 5);
        assert_eq!(content, "abc\0\0");
    }

    #[test]
    fn a_file_that_was_cut_gives_its_buffer_back() {
        let large = splice(Bytes::new(), 0, 0, &vec![1; 1 << 20], 1 << 20);
        let address = large.as_ptr();
        let small = splice(large, 10, 10, b"", 10);
        assert_eq!(small[..], [1; 10]);
        assert_ne!(small.as_ptr(), address);
    }

    #[test]
    fn extents_are_added_without_overflow() {
        for (offset, length, fits) in [
            (0, 0, true),
            (1 << 20, 0, true),
            ((1 << 20) - 1, 1, true),
            (1 << 20, 1, false),
            (1 << 32, 0, false),
            (u64::MAX, 1, false),
            (u64::MAX, usize::MAX, false),
            (0, usize::MAX, false),
        ] {
            assert_eq!(
                Extent::new(offset, length).is_ok(),
                fits,
                "{offset} {length}"
            );
        }
    }
}
