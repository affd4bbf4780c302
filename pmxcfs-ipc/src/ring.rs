//! The arithmetic of libqb's ring buffer, without the memory.
//!
//! A ring is an array of 4-byte words. A chunk at word `p` is the message length in bytes, a magic number, the message
//! and padding to a whole word; any of it may run over the end and continue at word 0. [`Consumer`] and [`Producer`]
//! are the server's two roles. Each keeps the position that is its own in private memory and never reads it back: the
//! client can write every byte of the shared files at any time. Whatever comes from the client is loaded once, checked
//! here, and used only in its checked form.
//!
//! The memory is a trait so that all of this is safe code and runs under tests and Miri on a plain vector.

use std::ops::RangeInclusive;

/// Magic of a chunk that can be read.
pub(crate) const MAGIC_COMPLETE: u32 = 0xA1A1_A1A1;
/// Magic of a chunk that is being written.
pub(crate) const MAGIC_ALLOCATED: u32 = 0xA110_CED0;
/// Magic of a chunk that has been read.
pub(crate) const MAGIC_CONSUMED: u32 = 0xD0D0_D0D0;

const WORD: u32 = 4;
const CHUNK_HEADER_WORDS: u32 = 2;
/// What libqb adds to a message when it asks whether it fits: chunk header plus one word.
const CHUNK_MARGIN: u64 = 12;

/// A shared ring as the other process sees it. Nothing that is loaded can be trusted.
pub(crate) trait RingMemory {
    /// Loads a data word with acquire ordering.
    fn load(&self, word: u32) -> u32;
    /// Stores a data word with release ordering.
    fn store(&self, word: u32, value: u32);
    /// Copies data bytes out. The range lies inside the ring.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies data bytes in. The range lies inside the ring.
    fn write(&self, offset: usize, from: &[u8]);
    /// Loads the reader's position with acquire ordering.
    fn read_position(&self) -> u32;
    /// Publishes the reader's position.
    fn set_read_position(&self, word: u32);
    /// Publishes the writer's position.
    fn set_write_position(&self, word: u32);
    /// Complete chunks that were not taken, according to the semaphore.
    fn chunk_count(&self) -> u32;
    /// Takes one chunk off the semaphore.
    fn take(&self);
    /// Adds one chunk to the semaphore and wakes its waiter.
    fn post(&self);
}

/// A client broke the rules of the ring, or does not read. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RingViolation {
    #[error("chunk has magic {0:#x}")]
    Magic(u32),
    #[error("chunk has length {0}")]
    Length(u32),
    #[error("read position {0} is outside the ring")]
    ReadPosition(u32),
    #[error("client does not take its responses")]
    Full,
}

/// Size of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    words: u32,
}

impl Geometry {
    /// The ring that libqb makes for messages of up to `max_message_size` bytes: 13 bytes more, in whole pages. The
    /// client computes the same and cuts or extends the file to it. `None` if the number of bytes is beyond 32 bits.
    pub(crate) fn for_message_size(max_message_size: u32, page_size: usize) -> Option<Self> {
        let bytes = (max_message_size as usize + 13).next_multiple_of(page_size);
        let words = u32::try_from(bytes).ok()? / WORD;
        Some(Self { words })
    }

    /// Words in the data file.
    pub(crate) const fn words(self) -> u32 {
        self.words
    }

    /// Bytes in the data file.
    pub(crate) const fn bytes(self) -> usize {
        self.words as usize * WORD as usize
    }

    /// The word `distance` after `word`, both smaller than the ring.
    fn advance(self, word: u32, distance: u32) -> u32 {
        let end = u64::from(word) + u64::from(distance);
        u32::try_from(end % u64::from(self.words)).expect("the remainder is smaller than words")
    }

    /// Words that a chunk with a message of `length` bytes takes.
    fn chunk_words(length: u32) -> u32 {
        CHUNK_HEADER_WORDS + length.div_ceil(WORD)
    }

    /// Words that can be written, as libqb counts them.
    fn free_words(self, write: u32, read: u32) -> u32 {
        match write.cmp(&read) {
            std::cmp::Ordering::Greater => self.words - (write - read) - 1,
            std::cmp::Ordering::Less => read - write - 1,
            std::cmp::Ordering::Equal => self.words,
        }
    }

    /// Byte offset of `word`, and how many bytes there are from it to the end of the ring.
    fn span(self, word: u32) -> (usize, usize) {
        let offset = word as usize * WORD as usize;
        (offset, self.bytes() - offset)
    }
}

/// Takes requests out of the client's ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    geometry: Geometry,
    read: u32,
}

impl Consumer {
    pub(crate) const fn new(geometry: Geometry) -> Self {
        Self { geometry, read: 0 }
    }

    /// Takes the next chunk, which the semaphore has announced: copies its message and releases it. `sizes` are the
    /// sizes in bytes that a message may have.
    pub(crate) fn take(
        &mut self,
        memory: &impl RingMemory,
        sizes: &RangeInclusive<usize>,
    ) -> Result<Vec<u8>, RingViolation> {
        memory.take();
        let magic_word = self.geometry.advance(self.read, 1);
        let magic = memory.load(magic_word);
        if magic != MAGIC_COMPLETE {
            return Err(RingViolation::Magic(magic));
        }
        let length = memory.load(self.read);
        let size = length as usize;
        if !sizes.contains(&size) || size > self.geometry.bytes() {
            return Err(RingViolation::Length(length));
        }
        let mut message = vec![0; size];
        let body = self.geometry.advance(self.read, CHUNK_HEADER_WORDS);
        let (offset, to_end) = self.geometry.span(body);
        let (head, tail) = message.split_at_mut(size.min(to_end));
        memory.read(offset, head);
        if !tail.is_empty() {
            memory.read(0, tail);
        }
        memory.store(self.read, 0);
        memory.store(magic_word, MAGIC_CONSUMED);
        self.read = self
            .geometry
            .advance(self.read, Geometry::chunk_words(length));
        memory.set_read_position(self.read);
        Ok(message)
    }
}

/// Puts responses into the client's ring.
#[derive(Debug)]
pub(crate) struct Producer {
    geometry: Geometry,
    write: u32,
}

impl Producer {
    pub(crate) const fn new(geometry: Geometry) -> Self {
        Self { geometry, write: 0 }
    }

    /// Writes one chunk with a message made of `header` and `body`, and announces it.
    pub(crate) fn put(
        &mut self,
        memory: &impl RingMemory,
        header: &[u8],
        body: &[u8],
    ) -> Result<(), RingViolation> {
        let read = memory.read_position();
        if read >= self.geometry.words {
            return Err(RingViolation::ReadPosition(read));
        }
        let free_bytes = u64::from(self.geometry.free_words(self.write, read)) * u64::from(WORD);
        let size = header.len() as u64 + body.len() as u64;
        if size + CHUNK_MARGIN > free_bytes {
            return Err(RingViolation::Full);
        }
        let length = u32::try_from(size).expect("it is smaller than the ring");
        let magic_word = self.geometry.advance(self.write, 1);
        memory.store(self.write, 0);
        memory.store(magic_word, MAGIC_ALLOCATED);
        let start = self.geometry.advance(self.write, CHUNK_HEADER_WORDS);
        let (offset, _) = self.geometry.span(start);
        let body_offset = self.copy_in(memory, offset, header);
        self.copy_in(memory, body_offset, body);
        memory.store(self.write, length);
        self.write = self
            .geometry
            .advance(self.write, Geometry::chunk_words(length));
        memory.set_write_position(self.write);
        memory.store(magic_word, MAGIC_COMPLETE);
        memory.post();
        Ok(())
    }

    /// Copies `bytes` to `offset` and on, around the end; returns the offset behind them.
    fn copy_in(&self, memory: &impl RingMemory, offset: usize, bytes: &[u8]) -> usize {
        let (head, tail) = bytes.split_at(bytes.len().min(self.geometry.bytes() - offset));
        memory.write(offset, head);
        if !tail.is_empty() {
            memory.write(0, tail);
        }
        (offset + bytes.len()) % self.geometry.bytes()
    }
}

#[cfg(test)]
mod tests;
