//! Gives free memory back to the system after a peak.
//!
//! glibc keeps what the daemon frees, because it lies between what is in use: the content of removed files, former trees and
//! long answers would stay resident for as long as the daemon runs. [`Trimmer::look`] returns it soon after resident memory has
//! grown and stands still. A trim leaves out the end of a thread's heap, which a thread gives back itself when it frees memory
//! there; [`configure`] sees to that.

use std::fs;

use libc::c_int;
use nix::unistd::{SysconfVar, sysconf};

/// Bytes from which an allocation has pages of its own. The reader threads' buffers have; the content of a file lies on a heap,
/// where pages need not be made anew for each write. glibc's own limit moves, and with it that of [`KEPT_SIZE`], to 64 MiB.
const PAGES_SIZE: c_int = 4 << 20;

/// Free bytes at the end of a heap that a thread keeps.
const KEPT_SIZE: c_int = 1 << 20;

/// Resident memory may exceed that after the last trim by this share of it.
const SHARE: u64 = 10;

/// And by this many bytes, so that a small daemon is not trimmed for nothing.
const SLACK: u64 = 512 * 1024;

/// Looks after a trim until the next one: meanwhile the store's thread has given up its caches.
const LOOKS_TO_SECOND_TRIM: u32 = 3;

/// Sets the allocator's limits. Call it before there are threads.
#[expect(
    unsafe_code,
    reason = "the C library's allocator has no safe interface"
)]
pub(super) fn configure() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, PAGES_SIZE),
        (libc::M_TRIM_THRESHOLD, KEPT_SIZE),
    ] {
        // SAFETY: mallopt takes two numbers, and the caller sees to it that no other thread allocates meanwhile.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Decides when to trim. A trim walks through all free memory, so a daemon that does not grow is left alone.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    /// Resident bytes at the last look.
    last: u64,
    /// Resident bytes after the last trim.
    floor: u64,
    /// Looks until the second trim after growth; 0 if that was made.
    again_in: u32,
}

impl Trimmer {
    /// Looks at the resident memory, and trims it if that is due.
    pub(super) fn look(&mut self) {
        let Some(resident) = resident_bytes() else {
            return;
        };
        if self.is_due(resident) {
            trim();
            self.trimmed(resident_bytes().unwrap_or(resident));
        }
    }

    fn is_due(&mut self, resident: u64) -> bool {
        let has_moved = resident.abs_diff(self.last) > SLACK;
        self.last = resident;
        self.floor = self.floor.min(resident);
        if has_moved {
            return false;
        }
        if resident > self.floor + self.floor / SHARE + SLACK {
            self.again_in = LOOKS_TO_SECOND_TRIM;
            return true;
        }
        let was_trimmed_lately = self.again_in > 0;
        self.again_in = self.again_in.saturating_sub(1);
        was_trimmed_lately && self.again_in == 0
    }

    fn trimmed(&mut self, resident: u64) {
        self.last = resident;
        self.floor = resident;
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page_size = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page_size).ok()?)
}

#[expect(
    unsafe_code,
    reason = "the C library's allocator has no safe interface"
)]
fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread: it takes the allocator's own locks, and gives back pages
    // that hold nothing but free memory.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The looks at which memory is trimmed, if it is as large as this, and a trim brings it down to 20 MiB.
    fn trims(resident: &[u64]) -> Vec<usize> {
        let mut trimmer = Trimmer::default();
        trimmer.trimmed(20 * MIB);
        let mut is_trimmed = |resident: u64| {
            let is_due = trimmer.is_due(resident);
            if is_due {
                trimmer.trimmed(20 * MIB);
            }
            is_due
        };
        let looks = resident.iter().enumerate();
        let due = looks.filter(|(_, resident)| is_trimmed(**resident * MIB));
        due.map(|(look, _)| look).collect()
    }

    #[test]
    fn what_stands_still_at_its_size_is_left_alone() {
        assert_eq!(trims(&[20, 22, 22, 20, 20, 20]), [0; 0]);
    }

    #[test]
    fn what_grows_is_trimmed_when_it_stands_still_and_once_more() {
        assert_eq!(trims(&[40, 80, 120, 120, 20, 20, 20, 20, 20, 20]), [3, 6]);
        assert_eq!(trims(&[40, 40, 80, 80, 20, 20, 20, 20]), [1, 3, 6]);
    }
}
