//! Gives free memory back to the system after a peak.
//!
//! glibc keeps what the daemon frees, because it lies between what is in use: the content of removed files, former trees and
//! long answers would stay resident for as long as the daemon runs. [`Trimmer::look`] returns it soon after the process has
//! come to rest and uses less than before. A trim leaves out the end of a thread's heap, which a thread gives back itself when it
//! frees memory there; [`configure`] sees to that.

#![expect(
    unsafe_code,
    reason = "the C library's allocator has no safe interface"
)]

use libc::c_int;
use procfs::process::Process;

/// Bytes from which an allocation has pages of its own. The reader threads' buffers have; the content of a file lies on a heap,
/// where pages need not be made anew for each write. glibc's own limit moves, and with it that of [`KEPT_SIZE`], to 64 MiB.
const PAGES_SIZE: c_int = 4 << 20;

/// Free bytes at the end of a heap that a thread keeps.
const KEPT_SIZE: c_int = 1 << 20;

/// A trim is due for a change of more than this share of resident memory.
const SHARE: u64 = 20;

/// And of more than this many bytes, so that a small daemon is not trimmed for nothing.
const SLACK: u64 = 512 * 1024;

/// Looks of which one counts what is in use, since that takes the allocator's locks.
const COUNT_INTERVAL: u32 = 2;

/// Sets the allocator's limits. Call it before there are threads.
pub(super) fn configure() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, PAGES_SIZE),
        (libc::M_TRIM_THRESHOLD, KEPT_SIZE),
    ] {
        // SAFETY: mallopt takes two numbers, and the caller sees to it that no other thread allocates meanwhile.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Memory that no file and no other process shares: stacks, heaps in use, and what the allocator keeps.
    resident: u64,
    /// What the program has allocated in heaps, resident or not.
    in_use: u64,
}

/// Decides when to trim. A trim walks through all free memory, so a daemon that neither grew nor freed much is left alone.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    /// Resident bytes at the last look.
    last: u64,
    look_count: u32,
    /// After the last trim: what was resident then, and the most that was in use since.
    since: Memory,
}

impl Trimmer {
    /// Looks at the memory, and trims it if that is due.
    pub(super) fn look(&mut self) {
        let Some(resident) = resident_bytes() else {
            return;
        };
        let is_at_rest = resident.abs_diff(self.last) <= SLACK;
        self.last = resident;
        self.look_count += 1;
        if !self.look_count.is_multiple_of(COUNT_INTERVAL) {
            return;
        }
        let in_use = allocated_bytes();
        if self.is_due(Memory { resident, in_use }) && is_at_rest {
            trim();
            let resident = resident_bytes().unwrap_or(resident);
            self.since = Memory { resident, in_use };
        }
    }

    fn is_due(&mut self, memory: Memory) -> bool {
        self.since.in_use = self.since.in_use.max(memory.in_use);
        let margin = memory.resident / SHARE + SLACK;
        let has_freed = self.since.in_use - memory.in_use > margin;
        has_freed || memory.resident > self.since.resident + margin
    }
}

/// Resident memory of this process that is its own. Shared rings and the program's text cannot be trimmed.
fn resident_bytes() -> Option<u64> {
    let memory = Process::myself().ok()?.statm().ok()?;
    Some(memory.resident.saturating_sub(memory.shared) * procfs::page_size())
}

/// What is allocated in all heaps. Larger allocations have pages of their own, which go back when they are freed.
fn allocated_bytes() -> u64 {
    // SAFETY: mallinfo2 takes the allocator's own locks and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks as u64
}

fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread: it takes the allocator's own locks, and gives back pages
    // that hold nothing but free memory.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The counts at which a trim is due, of which so many MiB are resident and in use; a trim leaves 20 beside what is in use.
    fn trims(counts: &[(u64, u64)]) -> Vec<usize> {
        let mut trimmer = Trimmer {
            since: Memory {
                resident: 20 * MIB,
                in_use: 0,
            },
            ..Trimmer::default()
        };
        let mut is_trimmed = |(resident, in_use): (u64, u64)| {
            let memory = Memory {
                resident: resident * MIB,
                in_use: in_use * MIB,
            };
            let is_due = trimmer.is_due(memory);
            if is_due {
                trimmer.since = Memory {
                    resident: (20 + in_use) * MIB,
                    ..memory
                };
            }
            is_due
        };
        let due = counts.iter().enumerate();
        let due = due.filter(|(_, memory)| is_trimmed(**memory));
        due.map(|(count, _)| count).collect()
    }

    #[test]
    fn a_daemon_of_a_steady_size_is_left_alone() {
        assert_eq!(trims(&[(20, 0), (21, 1), (20, 0), (21, 1)]), [0; 0]);
    }

    #[test]
    fn growth_is_trimmed_once() {
        assert_eq!(trims(&[(60, 40), (60, 40), (60, 40)]), [0]);
    }

    #[test]
    fn what_a_peak_used_is_trimmed_after_it_was_freed() {
        assert_eq!(trims(&[(60, 40), (60, 40), (60, 10), (30, 10)]), [0, 2]);
    }
}
