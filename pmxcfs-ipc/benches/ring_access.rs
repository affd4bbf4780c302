//! What it costs to reach the rings: through a mapping, or by system calls only.
//!
//! The product maps the rings and guards the mapping against truncation (`src/shm.rs`, `src/sigbus.rs`). The
//! alternative never touches the memory: it reads and writes the files, and posts and takes semaphores with
//! `FUTEX_WAKE_OP`, which needs the page's address but not the page. This measures what either does between two
//! waits for events, for one request of 20 bytes and answers of several sizes, on the same files in `/dev/shm`.
//! Waking threads is not included; a whole round trip costs some ten microseconds more.
//!
//! ```text
//! cargo bench -p pmxcfs-ipc --bench ring_access
//! ```
#![allow(
    unsafe_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark of raw memory access"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::{IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

const RING_SIZE: usize = 1_052_672;
const HEADER_SIZE: usize = 12_288;
const REQUEST_SIZE: usize = 20;
const SEMAPHORE: usize = 8208;

/// Header and data of one ring: the files, and where they are mapped.
struct Ring {
    header: File,
    data: File,
    header_address: *mut u8,
    data_address: *mut u8,
}

impl Ring {
    fn new() -> Self {
        let file = |size: usize| {
            let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
            file.write_all(&vec![0; size]).unwrap();
            file
        };
        let (header, data) = (file(HEADER_SIZE), file(RING_SIZE));
        Self {
            header_address: map(&header, HEADER_SIZE),
            data_address: map(&data, RING_SIZE),
            header,
            data,
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: all offsets in this file are inside the header and aligned; the mapping is never undone.
        unsafe { AtomicU32::from_ptr(self.header_address.add(offset).cast()) }
    }
}

fn map(file: &File, size: usize) -> *mut u8 {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    address.cast()
}

/// One request and its response, as the product does it.
fn mapped(request: &Ring, response: &Ring, message: &mut [u8], answer: &[u8]) {
    black_box(request.word(SEMAPHORE).load(Ordering::Acquire));
    request.word(SEMAPHORE).fetch_sub(1, Ordering::Acquire);
    // SAFETY: the message is at the start of the ring.
    unsafe { ptr::copy_nonoverlapping(request.data_address, message.as_mut_ptr(), message.len()) };
    // SAFETY: the ring is mapped and aligned.
    let chunk = unsafe { AtomicU64::from_ptr(request.data_address.cast()) };
    chunk.store(0xD0D0_D0D0 << 32, Ordering::Release);
    request.word(4).store(1, Ordering::Release);
    black_box(response.word(4).load(Ordering::Acquire));
    // SAFETY: the answer fits the ring.
    unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), response.data_address, answer.len()) };
    response.word(0).store(1, Ordering::Release);
    // SAFETY: the semaphore is mapped and aligned to eight bytes.
    let semaphore = unsafe { AtomicU64::from_ptr(response.header_address.add(SEMAPHORE).cast()) };
    semaphore.fetch_add(1, Ordering::Release);
    wake(response);
}

fn wake(ring: &Ring) {
    let address = ring.word(SEMAPHORE).as_ptr();
    // SAFETY: the kernel only looks up waiters of the address.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, 1) };
}

/// Adds to the semaphore in the kernel, and wakes `wake_count` waiters.
fn futex_add(ring: &Ring, operation: u32, wake_count: u32) {
    let address = ring.word(SEMAPHORE).as_ptr();
    // SAFETY: the kernel changes the mapped word atomically.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAKE_OP,
            wake_count,
            0,
            address,
            operation,
        )
    };
}

/// The same without touching the memory.
fn by_system_calls(request: &Ring, response: &Ring, message: &mut [u8], answer: &[u8]) {
    let mut word = [0; 4];
    request
        .header
        .read_exact_at(&mut word, SEMAPHORE as u64)
        .unwrap();
    futex_add(request, 0x10FF_FFFF, 0);
    request.data.read_exact_at(message, 0).unwrap();
    request
        .data
        .write_all_at(&[0, 0, 0, 0, 0xD0, 0xD0, 0xD0, 0xD0], 0)
        .unwrap();
    request.header.write_all_at(&[1, 0, 0, 0], 4).unwrap();
    response.header.read_exact_at(&mut word, 4).unwrap();
    let parts = [IoSlice::new(&answer[..32]), IoSlice::new(&answer[32..])];
    let written = nix::sys::uio::pwritev(&response.data, &parts, 0).unwrap();
    assert_eq!(written, answer.len());
    response.header.write_all_at(&[1, 0, 0, 0], 0).unwrap();
    futex_add(response, 0x1000_1FFF, 1);
}

type Access = fn(&Ring, &Ring, &mut [u8], &[u8]);

fn nanoseconds_per_request(access: Access, answer_size: usize) -> f64 {
    let (request, response) = (Ring::new(), Ring::new());
    let mut message = [0; REQUEST_SIZE + 8];
    let answer = vec![1; answer_size + 32];
    let count = (40_000_000 / (answer_size + 4000)).max(50);
    let start = Instant::now();
    for _ in 0..count {
        access(&request, &response, &mut message, &answer);
    }
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let count = count as f64;
    start.elapsed().as_secs_f64() * 1e9 / count
}

fn median(access: Access, answer_size: usize) -> f64 {
    let mut rounds: Vec<_> = (0..15)
        .map(|_| nanoseconds_per_request(access, answer_size))
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    println!(
        "{:<10} {:>12} {:>18} {:>7}",
        "answer", "mapped, ns", "system calls, ns", "ratio"
    );
    for (name, size) in [
        ("100 B", 100),
        ("4 KiB", 4096),
        ("64 KiB", 65_536),
        ("900 KiB", 921_600),
    ] {
        let (mapped, called) = (median(mapped, size), median(by_system_calls, size));
        println!(
            "{name:<10} {mapped:>12.0} {called:>18.0} {:>7.2}",
            called / mapped
        );
    }
}
