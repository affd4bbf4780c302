//! What a process costs while something is done.

use std::fs;
use std::time::Duration;

/// Has [`peak_bytes`](crate::proc::peak_bytes) begin anew.
///
/// # Panics
/// If the process is gone.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process runs");
}

/// Processor time that a process has used.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let times = tasks.filter_map(|task| {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}
