//! One processor for all.
//!
//! Between two processors of a virtual machine, waking the other one can take twenty times as long as the operation, and whether
//! it is woken is the scheduler's mood of the moment. Pairs in alternating rounds have the same mood; a figure that stands by
//! itself would measure nothing else. One client and its server take turns anyway: on one processor the work remains.

use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Until it is dropped, this thread, what it starts and the given servers run on one processor.
pub(crate) struct OneProcessor {
    pids: Vec<u32>,
    all: CpuSet,
}

impl OneProcessor {
    /// Moves them there.
    pub(crate) fn with(pids: &[u32]) -> io::Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count()).find(|number| all.is_set(*number).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(first.ok_or(io::ErrorKind::NotFound)?)?;
        let guard = Self {
            pids: pids.to_vec(),
            all,
        };
        guard.move_to(&one)?;
        Ok(guard)
    }

    fn move_to(&self, processors: &CpuSet) -> io::Result<()> {
        sched_setaffinity(Pid::from_raw(0), processors)?;
        for pid in &self.pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?.file_name();
                let task = task.to_str().and_then(|task| task.parse().ok());
                let task = Pid::from_raw(task.ok_or(io::ErrorKind::InvalidData)?);
                sched_setaffinity(task, processors)?;
            }
        }
        Ok(())
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        if let Err(error) = self.move_to(&self.all) {
            eprintln!("the following rows are on one processor, too: {error}");
        }
    }
}
