//! A mount that does not answer is noticed, and a process whose mount does not answer can still be killed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use pmxcfs::daemon::liveness::{Probe, mount_answers};
use pmxcfs::fuse::{self, Mount};

const PATIENCE: Duration = Duration::from_secs(20);

/// Directory that the second process mounts on.
const ROLE: &str = "PMXCFS_LIVENESS_DIR";

fn pause() {
    nix::poll::poll(&mut [], PollTimeout::from(5u8)).expect("a pause");
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        pause();
    }
}

fn mount(directory: &Path) -> (Mount, OwnedFd) {
    fuse::mount(directory).expect("mounted (needs root and /dev/fuse)")
}

/// Opens the session as a daemon does, and then takes requests without answering them: the state in which the kernel lets
/// nobody out who waits.
fn take_requests_for_ever(connection: OwnedFd) {
    const INIT: [u8; 4] = 26u32.to_le_bytes();
    let mut connection = File::from(connection);
    let mut request = vec![0; 256 * 1024];
    let mut take = move || -> std::io::Result<()> {
        loop {
            let _size = connection.read(&mut request)?;
            if request[4..8] == INIT {
                // Header (size, error, id of the request), then protocol 7.19 without any of its features.
                let mut reply = [0; 40];
                reply[0] = 40;
                reply[8..16].copy_from_slice(&request[8..16]);
                (reply[16], reply[20], reply[38]) = (7, 19, 1);
                connection.write_all(&reply)?;
            }
        }
    };
    std::thread::spawn(move || take().expect_err("the mount went away"));
}

/// Whether a thread of that name waits for an answer of the FUSE connection.
fn waits_in_fuse(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.flatten().any(|task| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        // The first field is the number of the system call that it is in.
        read("comm").trim() == "liveness"
            && read("syscall").split(' ').next() == Some(&libc::SYS_statfs.to_string())
    })
}

#[test]
fn a_mount_that_nobody_serves_does_not_answer_until_it_is_gone() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (mounted, connection) = mount(directory.path());
    let path = directory.path().to_owned();
    let probe = Probe::start(move || mount_answers(&path)).expect("a thread");
    assert!(probe.answers(), "nothing was asked yet");
    until("the question reaches the kernel", || {
        waits_in_fuse(std::process::id())
    });
    for _ in 0..20 {
        assert!(!probe.answers());
        pause();
    }
    // The question ends with the connection, with an error.
    drop(connection);
    until("the question ends", || !waits_in_fuse(std::process::id()));
    assert!(!probe.answers(), "an error is no answer");
    drop(mounted);
    assert!(
        !mount_answers(directory.path()),
        "the directory below is no mount"
    );
}

#[test]
fn a_process_whose_mount_does_not_answer_can_be_killed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child_that_takes_and_never_answers"])
        .env(ROLE, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let pid = child.id();
    until("its question waits", || waits_in_fuse(pid));
    child.kill().expect("a signal");
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    assert_eq!(
        status.and_then(|status| status.signal()),
        Some(libc::SIGKILL)
    );
    fuse::detach(directory.path());
}

/// The child of the test above. Alone it checks that an unmount frees what waits.
#[test]
fn child_that_takes_and_never_answers() {
    let own = tempfile::tempdir().expect("temporary directory");
    let given = std::env::var_os(ROLE).map(PathBuf::from);
    let directory = given.clone().unwrap_or_else(|| own.path().to_owned());
    let (mounted, connection) = mount(&directory);
    take_requests_for_ever(connection);
    let path = directory.clone();
    let probe = Probe::start(move || mount_answers(&path)).expect("a thread");
    assert!(probe.answers(), "nothing was asked yet");
    until("its question waits", || waits_in_fuse(std::process::id()));
    while given.is_some() {
        pause();
    }
    let forced = nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_FORCE);
    assert!(matches!(forced, Ok(()) | Err(nix::errno::Errno::EBUSY)));
    until("its question ends", || !waits_in_fuse(std::process::id()));
    drop(mounted);
}
