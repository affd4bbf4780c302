//! Gives free memory back to the system after a peak.
//!
//! glibc keeps what the daemon frees, because it lies between what is in use: the content of removed files, former trees and
//! long answers would stay resident for as long as the daemon runs. [`Trimmer::look`] returns it soon after the process has
//! come to rest with more resident memory beside what is in use than after the last trim. A trim leaves out the end of a
//! thread's heap, which a thread gives back itself when it frees memory there; [`configure`] sees to that.

use std::fs;

use libc::c_int;
use nix::unistd::{SysconfVar, sysconf};

/// Bytes from which an allocation has pages of its own. The reader threads' buffers have; the content of a file lies on a heap,
/// where pages need not be made anew for each write. glibc's own limit moves, and with it that of [`KEPT_SIZE`], to 64 MiB.
const PAGES_SIZE: c_int = 4 << 20;

/// Free bytes at the end of a heap that a thread keeps.
const KEPT_SIZE: c_int = 1 << 20;

/// Resident memory that nothing uses may grow by this share of all resident memory before a trim.
const SHARE: u64 = 20;

/// And by this many bytes, so that a small daemon is not trimmed for nothing.
const SLACK: u64 = 512 * 1024;

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

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Memory that no file and no other process shares: stacks, heaps in use, and what the allocator keeps.
    resident: u64,
    /// What the program has allocated.
    in_use: u64,
}

impl Memory {
    fn unused(self) -> u64 {
        self.resident.saturating_sub(self.in_use)
    }
}

/// Looks between two trims that did not help enough, at most. What a trim leaves after that is taken for needed.
const MAX_PAUSE: u32 = 16;

/// Decides when to trim. A trim walks through all free memory, so a daemon that keeps little is left alone.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    /// Resident bytes at the last look.
    last: u64,
    /// Resident bytes beside those in use that the daemon needs: the least that a look has seen.
    floor: Option<u64>,
    /// Looks until the next trim, after one that did not help enough: threads give up their caches later.
    pause: u32,
    /// Looks of that pause that are left.
    rest: u32,
}

impl Trimmer {
    /// Begins with the memory as it is, which is little.
    pub(super) fn new() -> Self {
        let floor = resident_bytes().map(|resident| resident.saturating_sub(allocated_bytes()));
        Self {
            floor,
            ..Self::default()
        }
    }

    /// Looks at the memory, and trims it if that is due.
    pub(super) fn look(&mut self) {
        let Some(resident) = resident_bytes() else {
            return;
        };
        if !self.may_be_due(resident) {
            return;
        }
        let in_use = allocated_bytes();
        if self.is_too_much(Memory { resident, in_use }) {
            trim();
            let resident = resident_bytes().unwrap_or(resident);
            self.trimmed(Memory { resident, in_use });
        } else {
            self.pause = 0;
        }
    }

    /// Whether the daemon is at rest and no pause lasts. Counting what is in use takes the allocator's locks, so it is left then.
    fn may_be_due(&mut self, resident: u64) -> bool {
        let is_at_rest = resident.abs_diff(self.last) <= SLACK;
        self.last = resident;
        let has_paused = self.rest == 0;
        self.rest = self.rest.saturating_sub(1);
        is_at_rest && has_paused
    }

    fn is_too_much(&mut self, memory: Memory) -> bool {
        let unused = memory.unused();
        let floor = self.floor.map_or(unused, |floor| floor.min(unused));
        self.floor = Some(floor);
        unused > floor + memory.resident / SHARE + SLACK
    }

    fn trimmed(&mut self, memory: Memory) {
        self.last = memory.resident;
        if self.is_too_much(memory) && self.pause < MAX_PAUSE {
            self.pause = (self.pause * 2).max(1);
            self.rest = self.pause;
        } else if self.pause == MAX_PAUSE {
            // The daemon needs as much as this.
            self.pause = 0;
            self.floor = Some(memory.unused());
        }
    }
}

/// Resident memory of this process that is its own. Shared rings and the program's text cannot be trimmed.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split(' ').skip(1);
    let mut pages = || fields.next()?.parse::<u64>().ok();
    let own = pages()?.saturating_sub(pages()?);
    let page_size = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(own * u64::try_from(page_size).ok()?)
}

/// What is allocated in all heaps and in pages of its own.
#[expect(
    unsafe_code,
    reason = "the C library's allocator has no safe interface"
)]
fn allocated_bytes() -> u64 {
    // SAFETY: mallinfo2 takes the allocator's own locks and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
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

    fn sized((resident, in_use): (u64, u64)) -> Memory {
        Memory {
            resident: resident * MIB,
            in_use: in_use * MIB,
        }
    }

    fn is_due(trimmer: &mut Trimmer, memory: Memory) -> bool {
        trimmer.may_be_due(memory.resident) && trimmer.is_too_much(memory)
    }

    /// The looks at which memory is trimmed, of which so much is resident and in use; a trim leaves 20 MiB beside what is in use.
    fn trims(memory: &[(u64, u64)]) -> Vec<usize> {
        let mut trimmer = Trimmer::default();
        for _ in 0..2 {
            assert!(!is_due(&mut trimmer, sized((20, 0))), "it is small");
        }
        let mut is_trimmed = |memory: (u64, u64)| {
            let is_due = is_due(&mut trimmer, sized(memory));
            if is_due {
                trimmer.trimmed(sized((memory.1 + 20, memory.1)));
            }
            is_due
        };
        let looks = memory.iter().enumerate();
        let due = looks.filter(|(_, memory)| is_trimmed(**memory));
        due.map(|(look, _)| look).collect()
    }

    #[test]
    fn what_is_in_use_is_left_alone() {
        assert_eq!(trims(&[(20, 0), (60, 40), (60, 40), (60, 40)]), [0; 0]);
    }

    #[test]
    fn what_is_free_is_trimmed_when_the_daemon_is_at_rest() {
        assert_eq!(trims(&[(80, 0), (120, 0), (120, 0), (20, 0), (20, 0)]), [2]);
    }

    #[test]
    fn what_a_peak_used_is_trimmed_after_it_was_freed() {
        assert_eq!(
            trims(&[(60, 20), (60, 20), (40, 20), (40, 0), (20, 0)]),
            [1, 3]
        );
    }

    #[test]
    fn a_trim_that_does_not_help_is_tried_again_later_and_later_and_no_more() {
        let mut trimmer = Trimmer::default();
        for _ in 0..2 {
            is_due(&mut trimmer, sized((20, 0)));
        }
        let mut is_trimmed = |_look: &u32| {
            let is_due = is_due(&mut trimmer, sized((60, 0)));
            if is_due {
                trimmer.trimmed(sized((60, 0)));
            }
            is_due
        };
        let looks: Vec<u32> = (0..100).filter(|look| is_trimmed(look)).collect();
        assert_eq!(looks, [1, 3, 6, 11, 20, 37], "then it is taken for needed");
    }
}
