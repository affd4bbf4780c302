//! The systemd unit is one that systemd accepts, and says what management programs rely on.

use std::path::Path;
use std::process::Command;

const UNIT: &str = "pve-cluster.service";

/// The programs as the unit names them; not installed where the tests run.
const PROGRAMS: [&str; 2] = ["/usr/bin/pmxcfs-ctl", "/usr/bin/pmxcfs"];

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a member of the workspace")
        .join("systemd")
        .join(UNIT);
    std::fs::read_to_string(path).expect("the unit is there")
}

#[test]
fn systemd_accepts_the_unit() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let copy = directory.path().join(UNIT);
    let text = PROGRAMS
        .iter()
        .fold(unit(), |text, program| text.replace(program, "/bin/true"));
    std::fs::write(&copy, text).expect("written");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output()
        .expect("systemd-analyze runs (package systemd)");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    assert!(!messages.contains(UNIT), "{messages}");
}

#[test]
fn unit_starts_before_corosync_and_keeps_the_mount() {
    let unit = unit();
    for line in [
        "ExecStart=/usr/bin/pmxcfs --foreground",
        "ExecReload=/usr/bin/pmxcfs-ctl reload",
        "Environment=PMXCFS_UNIT=%n",
        "Type=notify",
        "FileDescriptorStoreMax=2",
        "KillMode=mixed",
        "WatchdogSec=30",
        "NotifyAccess=main",
        "TimeoutStopSec=10",
        "Restart=on-failure",
        "OOMScoreAdjust=-900",
        "ProtectClock=yes",
        "KeyringMode=private",
        "Before=corosync.service",
        "DefaultDependencies=no",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
