//! Clusters of real daemons on real corosync.
//!
//! The tests of this program run one after the other: each one fills the machine.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod fresh;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod life;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod names;
#[cfg(test)]
mod partition;
#[cfg(test)]
mod rogue;
#[cfg(test)]
mod status;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod totem;

use std::fs;
use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::{Mutex, MutexGuard};

/// Held by the test that runs.
static MACHINE: Mutex<()> = Mutex::new(());

/// How long a test may take.
const PATIENCE: Duration = Duration::from_secs(400);

/// Waits until no other cluster is on the machine.
fn alone() -> Alone {
    alone_for(PATIENCE)
}

/// The same for a test that may take this long.
fn alone_for(patience: Duration) -> Alone {
    let machine = MACHINE.lock();
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tell("*** A TEST HANGS: ALL OF ITS DAEMONS ARE KILLED ***");
            kill_children();
        }
    });
    Alone {
        _machine: machine,
        _done: done,
    }
}

/// As long as it lives, no other test has a cluster. One that hangs loses its daemons, so that what waits for them fails.
struct Alone {
    _machine: MutexGuard<'static, ()>,
    _done: mpsc::Sender<()>,
}

/// Past the test runner, which hides the output of a test that succeeds. Opening /dev/stderr would cut a log file to nothing.
fn tell(text: &str) {
    let text = format!("\n{text}\n");
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("standard error is open");
}

fn kill_children() {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    for task in tasks.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            // Fails for one that has just ended.
            let _result = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
}
