//! Starts without `-f`, as systemd makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration_tests::{Check, Host, proc, wait};
use nix::sys::signal::Signal;

use crate::{STOP_BAR, hold_instance_lock};

fn status_line(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap();
    line.trim().to_owned()
}

#[test]
fn when_the_start_returns_everything_answers() {
    for _ in 0..5 {
        let host = Host::new();
        let daemon = host.start_in_background();
        let mut check = Check::new();
        check.ok("the mount", fs::read_link(host.path("local")));
        check.ok("writing", fs::write(host.path("f"), "x"));
        check.ok("IPC", host.ipc().version());
        check.holds(
            "the process in the PID file runs",
            proc::is_running(daemon.pid()),
        );
        drop(check);
        daemon.stop();
        assert_eq!(host.recorded_pid(), None);
    }
}

#[test]
fn the_daemon_has_let_go_of_its_starter() {
    let host = Host::new();
    let daemon = host.start_in_background();
    let pid = daemon.pid();
    let mut check = Check::new();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    check.equal("working directory", link("cwd"), Some(PathBuf::from("/")));
    for descriptor in 0..3 {
        let row = format!("descriptor {descriptor}");
        check.equal(
            &row,
            link(&format!("fd/{descriptor}")),
            Some(PathBuf::from("/dev/null")),
        );
    }
    check.equal("umask", status_line(pid, "Umask:"), "0027".to_owned());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    check.equal("session", fields[3], pid.to_string().as_str());
    drop(check);
    daemon.stop();
}

#[test]
fn the_callers_directory_is_not_kept_busy() {
    let host = Host::new();
    let mut command = host.command(["-l"]);
    command.current_dir(host.root());
    assert!(command.status().unwrap().success());
    let pid = host.recorded_pid().unwrap();
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    wait::until("the stop", STOP_BAR, || {
        (!proc::is_running(pid)).then_some(())
    });
}

#[test]
fn a_daemon_whose_starter_is_gone_does_not_stay() {
    let host = Host::new();
    let lock = hold_instance_lock(&host);
    let mut starter = host.command(["-l"]).spawn().unwrap();
    let said = |words: &str| {
        wait::until(words, Duration::from_secs(20), || {
            host.log().contains(words).then_some(())
        });
    };
    said("unable to acquire pmxcfs lock - trying again");
    starter.kill().unwrap();
    starter.wait().unwrap();
    lock.unlock().map_err(|(_lock, errno)| errno).unwrap();
    said("exit proxmox configuration filesystem (-1)");
    assert!(!proc::is_mounted(&host.mount_dir()), "{}", host.log());
    assert_eq!(host.recorded_pid(), None);
    host.start_in_background().stop();
}

#[test]
fn a_failed_start_says_so() {
    let host = Host::new();
    fs::create_dir_all(host.mount_dir()).unwrap();
    fs::write(host.path("in-the-way"), "x").unwrap();
    let status = host.command(["-l"]).status().unwrap();
    assert_eq!(status.code(), Some(255), "{}", host.log());
    assert!(
        host.log().contains("not empty"),
        "the caller sees why:\n{}",
        host.log()
    );
    assert!(!proc::is_mounted(&host.mount_dir()));
    assert_eq!(host.recorded_pid(), None);
    fs::remove_file(host.path("in-the-way")).unwrap();
    host.start_in_background().stop();
}

#[test]
fn a_stop_of_a_background_daemon_is_quick() {
    let host = Host::new();
    let daemon = host.start_in_background();
    fs::write(host.path("f"), "x").unwrap();
    let elapsed = daemon.stop();
    assert!(elapsed < STOP_BAR, "{elapsed:?}");
    let daemon = host.start_in_background();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}
