//! Corosync and the network of a host.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{ClusterHost, address, configuration, send};
use crate::cluster::LIMIT;
use crate::wait;

/// Where corosync's configuration is.
const CONFIGURATION: &str = "/etc/corosync/corosync.conf";

impl ClusterHost {
    /// Starts corosync and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_corosync(&self) {
        let mut command = Command::new("corosync");
        command
            .arg("-f")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *self.corosync.lock() = Some(self.place.spawn(command));
        self.await_corosync();
    }

    /// Waits until corosync answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn await_corosync(&self) {
        let answers = wait::try_until(LIMIT, || {
            let output = self.run("corosync-cfgtool", &["-s"]);
            output.status.success().then_some(())
        });
        assert!(
            answers.is_some(),
            "corosync of {} does not answer\n{}",
            self.name,
            self.corosync_log()
        );
    }

    /// What corosync has logged.
    #[must_use]
    pub fn corosync_log(&self) -> String {
        let log = self.inside(|| fs::read("/run/corosync.log").unwrap_or_default());
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Ends corosync the hard way.
    pub fn kill_corosync(&self) {
        self.end_corosync(Signal::SIGKILL);
    }

    /// Ends corosync in order.
    pub fn stop_corosync(&self) {
        self.end_corosync(Signal::SIGTERM);
    }

    fn end_corosync(&self, signal: Signal) {
        let child = self.corosync.lock().take();
        if let Some(mut child) = child {
            send(&child, signal);
            child.wait().expect("a child can be waited for");
        }
    }

    /// Stops and continues corosync, as a stalled machine would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal_corosync(&self, signal: Signal) {
        let corosync = self.corosync.lock();
        send(corosync.as_ref().expect("corosync runs"), signal);
    }

    /// Process id of corosync.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn corosync_pid(&self) -> u32 {
        self.corosync.lock().as_ref().expect("corosync runs").id()
    }

    /// Whether there is a corosync that has not been stopped by a signal.
    pub(in crate::cluster) fn has_running_corosync(&self) -> bool {
        let corosync = self.corosync.lock();
        corosync.as_ref().is_some_and(|child| {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            status.is_ok_and(|text| !text.contains("State:\tT"))
        })
    }

    /// Whether corosync has the host of a number in its ring.
    pub(in crate::cluster) fn has_member(&self, number: usize) -> bool {
        let key = format!("runtime.members.{number}.status");
        let output = self.run("corosync-cmapctl", &["-g", &key]);
        String::from_utf8_lossy(&output.stdout).contains("= joined")
    }

    /// Waits until corosync is quorate or not. Nine of them that meet again on two busy processors may take longer than all else.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn await_quorum(&self, is_quorate: bool) {
        let expected = if is_quorate { "Yes" } else { "No" };
        let seen = wait::try_until(3 * LIMIT, || {
            let output = self.run("corosync-quorumtool", &["-s"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines()
                .any(|line| line.starts_with("Quorate:") && line.ends_with(expected))
                .then_some(())
        });
        assert!(
            seen.is_some(),
            "corosync of {} does not say \"Quorate: {expected}\"\n{}",
            self.name,
            self.corosync_log()
        );
    }

    /// Takes the network away.
    pub fn cut(&self) {
        self.place.script("ip link set eth0 down");
    }

    /// Gives the network back.
    pub fn heal(&self) {
        let address = address(self.number);
        self.place.script(&format!(
            "ip link set eth0 up; ip addr replace {address}/24 dev eth0"
        ));
    }

    /// A configuration of corosync with another version.
    #[must_use]
    pub fn corosync_conf(size: usize, version: u32) -> String {
        configuration(size, version)
    }

    /// What corosync reads when it starts or is told to.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn corosync_conf_on_disk(&self) -> String {
        self.inside(|| fs::read_to_string(CONFIGURATION).expect("the host has a corosync.conf"))
    }

    /// Puts a shell script in the place of `corosync-cfgtool`, which is then `/run/corosync-cfgtool`.
    ///
    /// # Panics
    /// If that fails.
    pub fn replace_cfgtool(&self, script: &str) {
        self.place.script(&format!(
            "cp $(command -v corosync-cfgtool) /run/corosync-cfgtool
             printf '%s\\n' '#!/bin/sh' {} > /run/cfgtool
             chmod 755 /run/cfgtool
             mount --bind /run/cfgtool $(command -v corosync-cfgtool)",
            quoted(script)
        ));
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
