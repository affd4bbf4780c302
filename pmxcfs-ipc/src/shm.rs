//! The server's view of a ring in shared memory.
//!
//! Header and data of a ring are two mappings of files that the client owns; the event ring exists for the client only
//! and is not mapped. Each mapping is registered with [`sigbus`], since the client can truncate its file.
//!
//! The alternative is to never touch the memory: read and write the files, and use the semaphores through
//! `FUTEX_WAKE_OP`. It needs no SIGBUS handler, but nine system calls more per request. `benches/ring_access.rs`
//! compares them; on the machine this was written on one request with an answer of 100 bytes took 0.5 us by mapping
//! and 10 us by calls, with one of 900 KiB 28 and 107 us. A whole round trip of libqb's server takes 10 us there.
//!
//! The other process may change every byte at any time. So no reference to the memory is ever made except to single
//! atomics, and messages cross by raw copies into or out of private buffers. All offsets are checked here again; a
//! mistake in the ring arithmetic is a panic and not a stray access.
#![expect(unsafe_code, reason = "touching memory that another process writes")]

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use rustix::thread::futex;

use crate::ring::{Geometry, RingMemory};
use crate::sigbus::{self, Guard};
use crate::wire::ring_header::{
    HEADER_SIZE, READ_POSITION_OFFSET, REF_COUNT_OFFSET, SEMAPHORE_OFFSET, WRITE_POSITION_OFFSET,
};

/// A file that is mapped and may be truncated by its owner.
#[derive(Debug)]
struct SharedFile {
    // Dropped before the mapping that it stands for.
    guard: Guard,
    memory: MmapRaw,
}

impl SharedFile {
    fn map(file: &File, size: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(size).map_raw(file)?;
        let start = memory.as_mut_ptr().expose_provenance();
        let guard = Guard::register(start, size).ok_or(Errno::EAGAIN)?;
        Ok(Self { guard, memory })
    }

    /// Address of `size` bytes from `offset`.
    fn bytes(&self, offset: usize, size: usize) -> NonNull<u8> {
        let limit = self.memory.len();
        assert!(offset <= limit && size <= limit - offset, "inside the file");
        // SAFETY: the offset is inside the mapping.
        let address = unsafe { self.memory.as_mut_ptr().add(offset) };
        NonNull::new(address).expect("nothing is mapped at 0")
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4), "aligned");
        let address = self.bytes(offset, 4);
        // SAFETY: inside the mapping, aligned to 4 (the mapping is to a page), mapped as long as `self` lives, and
        // accessed by atomics only, as far as this process is concerned, except for copies of message bytes, which
        // the connection's task makes, too.
        unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) }
    }

    fn double_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "aligned");
        let address = self.bytes(offset, 8);
        // SAFETY: as in `word`, aligned to 8.
        unsafe { AtomicU64::from_ptr(address.as_ptr().cast()) }
    }
}

/// One mapped ring.
#[derive(Debug)]
pub(crate) struct MappedRing {
    header: SharedFile,
    data: SharedFile,
}

impl MappedRing {
    /// Maps a header file of 8252 bytes and a data file of the size of `geometry`. The files can be closed afterwards.
    pub(crate) fn map(header: &File, data: &File, geometry: Geometry) -> io::Result<Self> {
        sigbus::install();
        Ok(Self {
            header: SharedFile::map(header, HEADER_SIZE)?,
            data: SharedFile::map(data, geometry.bytes())?,
        })
    }

    /// Whether the client has truncated a file. What was read since is zeros, and what was written is lost.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.header.guard.tripped() || self.data.guard.tripped()
    }

    /// Stores the reference count. With anything but 2 in the request ring the client's next call fails at once.
    pub(crate) fn set_ref_count(&self, count: u32) {
        self.header
            .word(REF_COUNT_OFFSET)
            .store(count, Ordering::SeqCst);
    }
}

impl RingMemory for MappedRing {
    fn load(&self, word: u32) -> u32 {
        self.data.word(4 * word as usize).load(Ordering::Acquire)
    }

    fn store(&self, word: u32, value: u32) {
        self.data
            .word(4 * word as usize)
            .store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let source = self.data.bytes(offset, into.len());
        // SAFETY: `bytes` checked the range, a private buffer cannot overlap the mapping, and any bytes are valid.
        // The client may write meanwhile: what arrives is then a mixture, which is checked like everything else.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), into.as_mut_ptr(), into.len()) };
        compiler_fence(Ordering::SeqCst);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let target = self.data.bytes(offset, from.len());
        // SAFETY: `bytes` checked the range, and a private buffer cannot overlap the mapping.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), target.as_ptr(), from.len()) };
        compiler_fence(Ordering::SeqCst);
    }

    fn read_position(&self) -> u32 {
        self.header
            .word(READ_POSITION_OFFSET)
            .load(Ordering::Acquire)
    }

    fn set_read_position(&self, word: u32) {
        self.header
            .word(READ_POSITION_OFFSET)
            .store(word, Ordering::Release);
    }

    fn set_write_position(&self, word: u32) {
        self.header
            .word(WRITE_POSITION_OFFSET)
            .store(word, Ordering::Release);
    }

    fn chunk_count(&self) -> u32 {
        self.header.word(SEMAPHORE_OFFSET).load(Ordering::Acquire)
    }

    fn take(&self) {
        // Only the server takes from this semaphore, so an honest one is not 0 here. A client that sets it to 0 in
        // between makes it wrap, and is caught when a chunk is missing.
        self.header
            .word(SEMAPHORE_OFFSET)
            .fetch_sub(1, Ordering::Acquire);
    }

    fn post(&self) {
        let old = self
            .header
            .double_word(SEMAPHORE_OFFSET)
            .fetch_add(1, Ordering::Release);
        let waiter_count = old >> 32;
        if waiter_count != 0 {
            // Fails if the page is gone, and then nobody waits.
            let _woken = futex::wake(self.header.word(SEMAPHORE_OFFSET), futex::Flags::empty(), 1);
        }
    }
}
