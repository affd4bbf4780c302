//! What `/proc` tells about a process.

use std::fs;
use std::path::Path;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Whether a process runs. A zombie does not.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name in parentheses may hold anything; the state follows the last one.
        !matches!(
            stat.rsplit(')')
                .next()
                .and_then(|rest| rest.trim_start().chars().next()),
            None | Some('Z' | 'X')
        )
    })
}

/// Kills a process, if it is still there.
pub(crate) fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // Fails for one that has just ended.
        let _result = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Processes that a thread of this process has started and that have not been waited for.
pub(crate) fn children_of_thread(tid: i32) -> Vec<u32> {
    let children =
        fs::read_to_string(format!("/proc/self/task/{tid}/children")).unwrap_or_default();
    let pids = children.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// Bytes that the process has caused to be written to block devices, page cache included.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn written_bytes(pid: u32) -> u64 {
    number_in(Path::new(&format!("/proc/{pid}/io")), "write_bytes:")
}

/// Resident memory in bytes.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    number_in(Path::new(&format!("/proc/{pid}/status")), "VmRSS:") * 1024
}

/// The most that resident memory has been since the start or [`forget_peak`](crate::cost::forget_peak), in bytes.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn peak_bytes(pid: u32) -> u64 {
    number_in(Path::new(&format!("/proc/{pid}/status")), "VmHWM:") * 1024
}

fn number_in(file: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(file).expect("the process runs");
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {}", file.display()))
}

/// Whether something is mounted on exactly this path.
///
/// # Panics
/// If the list of mounts cannot be read.
#[must_use]
pub fn is_mounted(path: &Path) -> bool {
    mount_line(path).is_some()
}

/// The line of `/proc/mounts` for this mount point.
///
/// # Panics
/// If the list of mounts cannot be read.
#[must_use]
pub fn mount_line(path: &Path) -> Option<String> {
    let path = path.to_str().expect("test paths are plain ASCII");
    fs::read_to_string("/proc/mounts")
        .expect("mounts can be listed")
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(path))
        .map(ToOwned::to_owned)
}
