//! Start, stop and crash of the daemon as systemd and operators see them.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

mod background;
mod command_line;
mod memory;
mod mode;
mod running;
mod shutdown;
mod startup;
mod takeover;
mod takeover_writers;
mod users;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use integration_tests::Host;
use nix::fcntl::{Flock, FlockArg};

/// Longest time that a stop may take, whatever clients and programs do.
const STOP_BAR: Duration = Duration::from_secs(2);

fn lock_file(host: &Host) -> PathBuf {
    host.state_dir().join(".pmxcfs.lockfile")
}

/// Takes the instance lock as another daemon would.
fn hold_instance_lock(host: &Host) -> Flock<File> {
    fs::create_dir_all(host.state_dir()).unwrap();
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(lock_file(host))
        .unwrap();
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_file, errno)| errno)
        .unwrap()
}
