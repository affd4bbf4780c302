//! The header file of a shared-memory ring.
//!
//! | offset | size | type | meaning | written by |
//! |---|---|---|---|---|
//! | 0 | 4 | u32 | word index of the next free word | the ring's writer |
//! | 4 | 4 | u32 | word index of the next chunk | the ring's reader |
//! | 8 | 4 | u32 | words in the data file | server, once |
//! | 12 | 4096 | NUL-ended | path of this file | server, once |
//! | 4108 | 4096 | NUL-ended | path of the data file | server, once |
//! | 8204 | 4 | i32 | reference count | both |
//! | 8208 | 32 | `sem_t` | glibc's process-shared semaphore | both |
//! | 8240 | 4 | i32 | flow control, request ring only | server |
//! | 8248 | 4 | - | user data, unused; clients cut it off two of the three rings | - |

use super::put;

/// Size of a header file as the server makes it, in bytes.
pub const HEADER_SIZE: usize = 8252;

/// Offset of the writer's position.
pub const WRITE_POSITION_OFFSET: usize = 0;
/// Offset of the reader's position.
pub const READ_POSITION_OFFSET: usize = 4;
/// Offset of the reference count. The client sends only while the request ring's is 2.
pub const REF_COUNT_OFFSET: usize = 8204;
/// Offset of the semaphore: u32 value, u32 waiters.
pub const SEMAPHORE_OFFSET: usize = 8208;

const WORD_SIZE_OFFSET: usize = 8;
const HEADER_PATH_OFFSET: usize = 12;
const DATA_PATH_OFFSET: usize = 4108;
const PATH_SIZE: usize = 4096;
const PROCESS_SHARED_OFFSET: usize = SEMAPHORE_OFFSET + 8;

/// glibc's mark of a process-shared semaphore (`FUTEX_PRIVATE_FLAG`, inverted meaning). With any other value the
/// client sleeps on a private futex, or dies.
const PROCESS_SHARED: i32 = 128;

/// Initial content of a header file. `ring` is the path that the client was told; the files are called
/// `RING-header` and `RING-data`.
pub fn encode(ring: &str, words: u32) -> Box<[u8; HEADER_SIZE]> {
    let mut bytes = Box::new([0; HEADER_SIZE]);
    put(&mut *bytes, WORD_SIZE_OFFSET, &words.to_le_bytes());
    put_path(&mut bytes, HEADER_PATH_OFFSET, ring, "-header");
    put_path(&mut bytes, DATA_PATH_OFFSET, ring, "-data");
    put(&mut *bytes, REF_COUNT_OFFSET, &1i32.to_le_bytes());
    put(
        &mut *bytes,
        PROCESS_SHARED_OFFSET,
        &PROCESS_SHARED.to_le_bytes(),
    );
    bytes
}

fn put_path(bytes: &mut [u8; HEADER_SIZE], offset: usize, ring: &str, suffix: &str) {
    let path = [ring.as_bytes(), suffix.as_bytes()].concat();
    let length = path.len().min(PATH_SIZE - 1);
    put(bytes, offset, &path[..length]);
}
