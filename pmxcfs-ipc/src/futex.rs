//! Waking a client that sleeps on a semaphore in shared memory.
#![expect(
    unsafe_code,
    reason = "futex(2) has no safe wrapper in std, libc or nix"
)]

use std::sync::atomic::AtomicU32;

/// Wakes one waiter of a futex that other processes share. Where nobody waits, or where the page is gone, nothing
/// happens.
pub(crate) fn wake_one(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE looks up waiters by the address and does not access the memory; the reference keeps the
    // address meaningful.
    let _woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
