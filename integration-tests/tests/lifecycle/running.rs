//! What a running daemon does for operators on its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use integration_tests::identity::Identity;
use integration_tests::{Host, wait};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn files_that_vanish_are_made_anew() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    fs::remove_dir_all(host.run_dir()).unwrap();
    fs::remove_file(host.pid_file()).unwrap();
    wait::until("the PID file", PATIENCE, || host.recorded_pid());
    assert_eq!(host.recorded_pid(), Some(daemon.pid()));
    wait::until("the control socket", PATIENCE, || {
        fs::symlink_metadata(host.run_dir().join("ctl.sock")).ok()
    });
    let www_data = Identity::www_data().gid;
    let place = fs::metadata(host.run_dir()).unwrap();
    assert_eq!(
        (place.mode() & 0o7777, place.uid(), place.gid()),
        (0o750, 0, www_data)
    );
    fs::remove_dir_all(host.run_dir()).unwrap();
    daemon.stop();
    let flag = fs::metadata(host.restart_flag()).unwrap();
    assert_eq!((flag.mode() & 0o7777, flag.gid()), (0o440, www_data));
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn the_service_manager_is_told_how_it_is() {
    let host = Host::new();
    let manager = UnixDatagram::bind(host.root().join("manager")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = host
        .command(["-f", "-l"])
        .env("NOTIFY_SOCKET", host.root().join("manager"))
        .spawn()
        .unwrap();
    // Beside what is about descriptors.
    let next = || loop {
        let mut buffer = [0; 512];
        let size = manager.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..size].to_vec()).unwrap();
        if !text.starts_with("FDSTORE") {
            return text;
        }
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "STATUS=local mode; no problems");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(next(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}
