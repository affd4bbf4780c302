//! Memory after a peak.

use std::fs;
use std::time::Duration;

use integration_tests::{Daemon, Host, proc, wait};

/// Bytes of each file.
const FILE_SIZE: usize = 512 * 1024;

/// Files of a round, 25 MB together.
const FILE_COUNT: usize = 50;

/// Longer than any machine takes. The daemon gives memory back some seconds after the last request.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn memory_after_a_peak_is_that_of_a_fresh_start() {
    let host = Host::new();
    let daemon = host.start();
    for number in 0..200 {
        fs::write(host.path(format!("kept{number}")), vec![b'k'; 4096]).unwrap();
    }
    daemon.stop();

    let daemon = host.start();
    read_all(&host);
    let fresh = resident(&daemon);
    for round in 0..4 {
        let at = |number: usize| host.path(format!("f{round}-{number}"));
        for number in 0..FILE_COUNT {
            fs::write(at(number), vec![b'x'; FILE_SIZE]).unwrap();
        }
        read_all(&host);
        for number in 0..FILE_COUNT {
            fs::remove_file(at(number)).unwrap();
        }
    }
    let is_given_back = || {
        let now = resident(&daemon);
        (now * 5 <= fresh * 6).then_some(())
    };
    wait::until(
        &format!("resident memory to be within 20 % of {fresh} kB again"),
        PATIENCE,
        is_given_back,
    );
    daemon.stop();
}

/// Lists the root and reads each file in it.
fn read_all(host: &Host) {
    for entry in fs::read_dir(host.mount_dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::read(entry.path()).unwrap();
        }
    }
}

/// Resident memory in kB.
fn resident(daemon: &Daemon<'_>) -> u64 {
    proc::resident_bytes(daemon.pid()) / 1024
}
