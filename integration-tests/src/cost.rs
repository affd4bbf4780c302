//! What a process costs while something is done.

use std::fs;
use std::time::Duration;

/// The most resident memory of a process in bytes since its start or [`forget_peak`].
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn peak_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kilobytes = text.lines().find_map(|line| {
        let rest = line.strip_prefix("VmHWM:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    kilobytes.expect("every process has a peak") * 1024
}

/// Has [`peak_bytes`] begin anew.
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
