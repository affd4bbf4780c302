//! The server's view of a connection's shared memory.
//!
//! A [`Region`] is one reservation of address space that holds the headers and data of the request and the response
//! ring; the event ring exists for the client only and is not mapped. One reservation is one entry in the
//! [`sigbus`] registry and one `munmap`.
//!
//! The alternative is to never touch the memory: read and write the files, and use the semaphores through
//! `FUTEX_WAKE_OP`. It needs no SIGBUS handler, but nine system calls more per request. `benches/ring_access.rs`
//! compares them; on the machine this was written on one request with an answer of 100 bytes took 0.5 us by mapping
//! and 10 us by calls, with one of 900 KiB 28 and 107 us. A whole round trip of libqb's server takes 10 us there.
//!
//! The other process may change every byte at any time. So no reference to the memory is ever made except to single
//! atomics, and messages cross by raw copies into or out of private buffers. All offsets are checked here again; a
//! mistake in the ring arithmetic is a panic and not a stray access.
#![expect(
    unsafe_code,
    reason = "mapping files and touching memory that another process writes"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use nix::errno::Errno;

use crate::futex;
use crate::ring::{Geometry, RingMemory};
use crate::sigbus::{self, Guard};
use crate::wire::ring_header::{
    HEADER_SIZE, READ_POSITION_OFFSET, REF_COUNT_OFFSET, SEMAPHORE_OFFSET, WRITE_POSITION_OFFSET,
};

/// Size of a page, in bytes.
pub(crate) fn page_size() -> u32 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).expect("Linux pages are between 4 KiB and 64 KiB")
}

/// The descriptors of one ring's files. Not needed any more once they are mapped.
#[derive(Debug)]
pub(crate) struct RingFiles<F> {
    pub(crate) header: F,
    pub(crate) data: F,
}

/// The mapped request and response rings of one connection.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    size: usize,
    header_size: usize,
    geometry: Geometry,
    /// Absent only while the region is being made.
    guard: Option<Guard>,
}

// SAFETY: the mapping belongs to the value alone; nothing in it is tied to a thread. (It is not Sync: two threads that
// copy at the same time would race.)
unsafe impl Send for Region {}

impl Region {
    /// Maps the files of both rings. Each data file has the size of `geometry`, each header file 8252 bytes.
    pub(crate) fn map<F: AsFd>(
        request: &RingFiles<F>,
        response: &RingFiles<F>,
        geometry: Geometry,
    ) -> io::Result<Self> {
        sigbus::install()?;
        let header_size = HEADER_SIZE.next_multiple_of(page_size() as usize);
        let size = 2 * (header_size + geometry.bytes());
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).expect("mmap never returns null");
        let mut region = Self {
            base,
            size,
            header_size,
            geometry,
            guard: None,
        };
        region.place(
            region.header_offset(Side::Request),
            header_size,
            &request.header,
        )?;
        region.place(
            region.header_offset(Side::Response),
            header_size,
            &response.header,
        )?;
        region.place(
            region.data_offset(Side::Request),
            geometry.bytes(),
            &request.data,
        )?;
        region.place(
            region.data_offset(Side::Response),
            geometry.bytes(),
            &response.data,
        )?;
        let start = region.base.as_ptr().expose_provenance();
        region.guard = Some(Guard::register(start, size).ok_or(Errno::EAGAIN)?);
        Ok(region)
    }

    /// Puts a file over `size` bytes of the reservation.
    fn place(&mut self, offset: usize, size: usize, file: &impl AsFd) -> io::Result<()> {
        assert!(offset + size <= self.size, "inside the reservation");
        // SAFETY: the offset is inside the reservation.
        let address = unsafe { self.base.add(offset) };
        // SAFETY: the range is inside a reservation that is ours and that nothing points into yet.
        let mapped = unsafe {
            libc::mmap(
                address.as_ptr().cast(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_fd().as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The ring that the client writes.
    pub(crate) const fn request(&self) -> MappedRing<'_> {
        MappedRing {
            region: self,
            side: Side::Request,
        }
    }

    /// The ring that the server writes.
    pub(crate) const fn response(&self) -> MappedRing<'_> {
        MappedRing {
            region: self,
            side: Side::Response,
        }
    }

    /// Whether the client has truncated a file. What was read since is zeros, and what was written is lost.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::tripped)
    }

    const fn header_offset(&self, side: Side) -> usize {
        match side {
            Side::Request => 0,
            Side::Response => self.header_size,
        }
    }

    const fn data_offset(&self, side: Side) -> usize {
        let headers = 2 * self.header_size;
        match side {
            Side::Request => headers,
            Side::Response => headers + self.geometry.bytes(),
        }
    }

    /// The 32-bit number at an offset of the region.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.size);
        // SAFETY: the offset is inside the reservation.
        let address = unsafe { self.base.add(offset) };
        // SAFETY: inside the mapping, aligned to 4 (the base is to a page), mapped as long as `self` lives, and
        // accessed by atomics only, as far as this process is concerned, except for copies of message bytes, which
        // the same thread makes.
        unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) }
    }

    /// The 64-bit number at an offset of the region.
    fn double_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.size);
        // SAFETY: the offset is inside the reservation.
        let address = unsafe { self.base.add(offset) };
        // SAFETY: as in `word`, aligned to 8.
        unsafe { AtomicU64::from_ptr(address.as_ptr().cast()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.guard = None;
        // SAFETY: the reservation is ours, and every pointer into it was borrowed from `self`.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        debug_assert_eq!(result, 0, "munmap of a whole mapping cannot fail");
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Request,
    Response,
}

/// One ring of a [`Region`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappedRing<'r> {
    region: &'r Region,
    side: Side,
}

impl MappedRing<'_> {
    /// Stores the reference count. With anything but 2 in the request ring the client's next call fails at once.
    pub(crate) fn set_ref_count(&self, count: u32) {
        self.header_word(REF_COUNT_OFFSET)
            .store(count, Ordering::SeqCst);
    }

    fn header_word(&self, offset: usize) -> &AtomicU32 {
        self.region
            .word(self.region.header_offset(self.side) + offset)
    }

    fn data_word(&self, word: u32) -> &AtomicU32 {
        assert!(word < self.region.geometry.words());
        self.region
            .word(self.region.data_offset(self.side) + 4 * word as usize)
    }

    /// Address of `size` data bytes from `offset`.
    fn bytes(&self, offset: usize, size: usize) -> NonNull<u8> {
        let limit = self.region.geometry.bytes();
        assert!(offset <= limit && size <= limit - offset, "inside the ring");
        // SAFETY: data_offset plus a ring's bytes is inside the reservation.
        unsafe {
            self.region
                .base
                .add(self.region.data_offset(self.side) + offset)
        }
    }
}

impl RingMemory for MappedRing<'_> {
    fn load(&self, word: u32) -> u32 {
        self.data_word(word).load(Ordering::Acquire)
    }

    fn store(&self, word: u32, value: u32) {
        self.data_word(word).store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let source = self.bytes(offset, into.len());
        // SAFETY: `bytes` checked the range, a private buffer cannot overlap the mapping, and any bytes are valid.
        // The client may write meanwhile: what arrives is then a mixture, which is checked like everything else.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), into.as_mut_ptr(), into.len()) };
        compiler_fence(Ordering::SeqCst);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let target = self.bytes(offset, from.len());
        // SAFETY: `bytes` checked the range, and a private buffer cannot overlap the mapping.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), target.as_ptr(), from.len()) };
        compiler_fence(Ordering::SeqCst);
    }

    fn read_position(&self) -> u32 {
        self.header_word(READ_POSITION_OFFSET)
            .load(Ordering::Acquire)
    }

    fn set_read_position(&self, word: u32) {
        self.header_word(READ_POSITION_OFFSET)
            .store(word, Ordering::Release);
    }

    fn set_write_position(&self, word: u32) {
        self.header_word(WRITE_POSITION_OFFSET)
            .store(word, Ordering::Release);
    }

    fn chunk_count(&self) -> u32 {
        self.header_word(SEMAPHORE_OFFSET).load(Ordering::Acquire)
    }

    fn take(&self) {
        // Only the server takes from this semaphore, so an honest one is not 0 here. A client that sets it to 0 in
        // between makes it wrap, and is caught when a chunk is missing.
        self.header_word(SEMAPHORE_OFFSET)
            .fetch_sub(1, Ordering::Acquire);
    }

    fn post(&self) {
        let semaphore = self.region.header_offset(self.side) + SEMAPHORE_OFFSET;
        let old = self
            .region
            .double_word(semaphore)
            .fetch_add(1, Ordering::Release);
        let waiter_count = old >> 32;
        if waiter_count != 0 {
            futex::wake_one(self.region.word(semaphore));
        }
    }
}
