//! A disk that is slow and a clock that is set, for one host only.
//!
//! All hosts share this machine's kernel, so its disks and its clock are nobody's to disturb. A library that is loaded before
//! the daemon's others answers for them instead.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::ClusterHost;

const SOURCE: &str = include_str!("shim.c");
const LIBRARY: &str = "/run/shim.so";

/// Two numbers: milliseconds that a sync takes longer, seconds that the clock is ahead.
const KNOBS: &str = "/run/shim.knobs";
const SYNC_DELAY: u64 = 0;
const CLOCK_OFFSET: u64 = 8;

impl ClusterHost {
    /// Gives the daemons that are started from now on a disk and a clock that can be disturbed.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn install_shim(&self) {
        self.inside(|| {
            fs::write(KNOBS, [0; 16]).expect("the host has memory");
            let mut compiler = Command::new("cc")
                .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror"])
                .args(["-o", LIBRARY, "-xc", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("cc is installed: scripts/install-packages does it");
            let mut input = compiler.stdin.take().expect("a pipe");
            input.write_all(SOURCE.as_bytes()).expect("cc reads");
            drop(input);
            let status = compiler.wait().expect("a child can be waited for");
            assert!(status.success(), "the shim does not compile");
        });
    }

    /// What a daemon has to be started with.
    pub(super) fn shim(&self) -> Option<(&'static str, &'static str)> {
        let is_installed = self.inside(|| Path::new(LIBRARY).exists());
        is_installed.then_some(("LD_PRELOAD", LIBRARY))
    }

    /// Makes each sync of the daemon's files take this much longer.
    ///
    /// # Panics
    /// If there is no shim, here and below.
    pub fn delay_syncs(&self, delay: Duration) {
        let delay_ms = i64::try_from(delay.as_millis()).expect("a short time");
        self.turn(SYNC_DELAY, delay_ms);
    }

    /// Sets the daemon's clock this much ahead of everybody else's; behind if negative.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.turn(CLOCK_OFFSET, seconds);
    }

    fn turn(&self, knob: u64, value: i64) {
        self.inside(|| {
            let file = OpenOptions::new().write(true).open(KNOBS);
            let file = file.expect("the shim is installed");
            let written = file.write_all_at(&value.to_le_bytes(), knob);
            written.expect("the host has memory");
        });
    }
}
