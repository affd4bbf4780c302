//! What `pmxcfs-ctl` tells operators and monitoring of a running daemon, and that whoever asks cannot harm it.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

mod clients;
mod cluster;
mod exposition;
mod metrics;
mod report;
mod watch;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::{Host, daemon, wait};
use serde_json::Value;

/// Exit status when the daemon is healthy.
const HEALTHY: i32 = 0;

/// Exit status when the daemon answers and something is wrong.
const DEGRADED: i32 = 1;

/// Exit status when there is no answer.
const FAILED: i32 = 2;

/// How long what the daemon does on its own may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run of the program left.
#[derive(Debug)]
struct Answer {
    status: i32,
    out: String,
    notes: String,
}

impl Answer {
    /// Standard output of a run that had this status and no complaints.
    fn expect(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.notes, "");
        self.out
    }

    /// Standard error of a run that failed and printed nothing else.
    fn complaint(self) -> String {
        assert_eq!(self.status, FAILED, "{self:#?}");
        assert_eq!(self.out, "");
        self.notes
    }
}

fn control_socket(host: &Host) -> PathBuf {
    host.run_dir().join("ctl.sock")
}

/// A command that asks the daemon of this host.
fn command<A: AsRef<OsStr>>(host: &Host, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(daemon::control_program());
    command
        .arg("--root-dir")
        .arg(host.root())
        .arg("--run-dir")
        .arg(host.run_dir())
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        notes: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ask<const N: usize>(host: &Host, arguments: [&str; N]) -> Answer {
    run(&mut command(host, arguments))
}

/// The report of a daemon, whatever the exit status says of it.
fn report(host: &Host) -> Value {
    let answer = ask(host, ["status", "--json"]);
    assert!(answer.status != FAILED, "{answer:#?}");
    serde_json::from_str(&answer.out).unwrap()
}

/// The first report that this holds for.
fn report_when(host: &Host, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, PATIENCE, || Some(report(host)).filter(&holds))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is a number"))
}

/// The row of an operation. An operation that there was none of has no row.
fn operation<'a>(report: &'a Value, kind: &str, name: &str) -> Option<&'a Value> {
    let rows = report[kind].as_array().unwrap();
    rows.iter().find(|row| row["operation"] == name)
}

fn count(report: &Value, kind: &str, name: &str) -> u64 {
    operation(report, kind, name).map_or(0, |row| number(&row["count"]))
}
