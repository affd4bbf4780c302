//! The stop: always orderly, never long.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration_tests::identity::Identity;
use integration_tests::ipc_client::IpcError;
use integration_tests::{Check, Host, IpcClient, proc, wait};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount, umount2};
use nix::sys::signal::Signal;

use crate::STOP_BAR;

#[test]
fn each_stop_signal_ends_it_orderly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let host = Host::new();
        let daemon = host.start();
        fs::write(host.path("f"), "x").unwrap();
        let exit = daemon.end_with(signal);
        let mut check = Check::new();
        let row = |text: &str| format!("{signal}: {text}");
        check.equal(&row("status"), exit.status.unwrap().code(), Some(0));
        check.holds(&row("time"), exit.elapsed < STOP_BAR);
        check.holds(&row("no mount"), !proc::is_mounted(&host.mount_dir()));
        check.equal(&row("no PID file"), host.recorded_pid(), None);
        let mut left: Vec<String> = fs::read_dir(host.state_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        check.equal(
            &row("plain database"),
            left,
            vec![
                ".pmxcfs.lockfile".to_owned(),
                "config.db".to_owned(),
                "history.db".to_owned(),
            ],
        );
        let log = host.log();
        check.holds(&row("log"), log.contains("teardown filesystem"));
        check.holds(
            &row("log"),
            log.contains("exit proxmox configuration filesystem (0)"),
        );
        let flag = fs::metadata(host.restart_flag()).unwrap();
        check.equal(
            &row("restart flag"),
            (flag.mode() & 0o7777, flag.uid(), flag.gid(), flag.len()),
            (0o440, 0, Identity::www_data().gid, 0),
        );
        drop(check);
        let daemon = host.start();
        assert!(
            !host.restart_flag().exists(),
            "the next start takes the flag away"
        );
        assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
        daemon.stop();
    }
}

#[test]
fn other_signals_keep_their_meaning() {
    let host = Host::new();
    let daemon = host.start();
    daemon.signal(Signal::SIGPIPE);
    fs::write(host.path("f"), "x").unwrap();
    let exit = daemon.end_with(Signal::SIGUSR1);
    assert_eq!(exit.status.unwrap().signal(), Some(Signal::SIGUSR1 as i32));
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    let host = Host::new();
    let command = host.command(["-f", "-l"]);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", "trap '' HUP; exec \"$@\"", "bash"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    wait::until("the mount", Duration::from_secs(20), || {
        fs::read_link(host.path("local")).ok()
    });
    let is_in = |mask: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix(mask));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        mask & (1 << (Signal::SIGHUP as u32 - 1)) != 0
    };
    assert!(is_in("SigIgn:"));
    // The kernel queues a blocked signal even if it is ignored. The start of a thread blocks all for a moment.
    wait::until("the signal not to be blocked", STOP_BAR, || {
        (!is_in("SigBlk:")).then_some(())
    });
    nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
    fs::write(host.path("f"), "x").unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it runs on");
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let status = wait::until("the stop", STOP_BAR, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn unmounting_from_outside_is_a_stop() {
    let host = Host::new();
    let mut daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    umount(&host.mount_dir()).unwrap();
    let exit = daemon.await_exit();
    assert_eq!(exit.status.unwrap().code(), Some(0));
    assert!(exit.elapsed < STOP_BAR, "{:?}", exit.elapsed);
    assert_eq!(host.recorded_pid(), None);
    drop(daemon);
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    daemon.stop();
}

#[test]
fn a_stop_under_load_is_quick_and_blocks_nobody() {
    const WORKERS_OF_A_KIND: usize = 3;
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    let mut idle_clients: Vec<IpcClient> = (0..5).map(|_| host.ipc()).collect();
    let open_file = File::create_new(host.path("open")).unwrap();
    let open_directory = File::open(host.path("d")).unwrap();
    let mut command = Command::new("sleep");
    let mut sleeper = command
        .arg("60")
        .current_dir(host.path("d"))
        .spawn()
        .unwrap();
    let counts: [[AtomicU32; 3]; WORKERS_OF_A_KIND] = Default::default();
    let elapsed = std::thread::scope(|scope| {
        for (number, [writes, requests, reads]) in counts.iter().enumerate() {
            // The workers end by the errors that they get; one that blocks would hang this scope.
            let host = &host;
            scope.spawn(move || {
                let path = host.path(format!("w{number}"));
                let file = File::create(path).unwrap();
                while file.write_at(&[1; 4096], 0).is_ok() {
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                let mut client = host.ipc();
                while client.version().is_ok() {
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                while fs::read(host.path(".version")).is_ok() {
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait::until("all workers to be at it", Duration::from_secs(20), || {
            let mut all = counts.iter().flatten();
            all.all(|count| count.load(Ordering::Relaxed) > 20)
                .then_some(())
        });
        daemon.stop()
    });
    assert!(elapsed < STOP_BAR, "{elapsed:?}");
    let error = open_file.write_at(b"x", 0).unwrap_err();
    let errno = Errno::from_raw(error.raw_os_error().unwrap());
    assert!(
        matches!(errno, Errno::ENOTCONN | Errno::ECONNABORTED),
        "{errno}"
    );
    for client in &mut idle_clients {
        let answer = client.version();
        assert!(matches!(answer, Err(IpcError::Transport(_))), "{answer:?}");
    }
    // Everything that held the old mount is still there: a new start works all the same.
    let daemon = host.start();
    assert!(host.path("w0").exists());
    drop((open_file, open_directory));
    daemon.stop();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// Runs what follows in mounts of its own, with the kernel's control filesystem for FUSE or without.
const WITH_CONTROL: &str =
    "mount -t fusectl fusectl /sys/fs/fuse/connections || exit 1; exec \"$@\"";
const WITHOUT_CONTROL: &str = "while umount /sys/fs/fuse/connections; do :; done; exec \"$@\"";

#[test]
fn a_file_that_is_kept_open_does_not_hold_up_a_stop() {
    for script in [WITH_CONTROL, WITHOUT_CONTROL] {
        let host = Host::new();
        let command = host.command(["-f", "-l"]);
        let mut apart = Command::new("unshare");
        apart
            .args(["--mount", "bash", "-c", script, "bash"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(File::create(host.root().join("daemon.log")).unwrap());
        let mut child = apart.spawn().unwrap();
        let mount_dir = host.mount_dir();
        let inside = format!("/proc/{}/root{}", child.id(), mount_dir.display());
        let path = |name: &str| Path::new(&inside).join(name);
        wait::until("the mount", Duration::from_secs(20), || {
            fs::read_link(path("local")).ok()
        });
        let file = File::create_new(path("open")).unwrap();
        file.write_at(b"x", 0).unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let status = wait::until("the stop", STOP_BAR, || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", host.log());
        assert!(!host.log().contains("out of reach"), "{}", host.log());
        let error = file.write_at(b"y", 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENOTCONN as i32));
        drop(file);
        let daemon = host.start();
        assert_eq!(fs::read(host.path("open")).unwrap(), b"x");
        daemon.stop();
    }
}

#[test]
fn a_stop_ends_a_daemon_whose_mount_is_out_of_reach() {
    let host = Host::new();
    let daemon = host.start();
    let file = File::create_new(host.path("open")).unwrap();
    file.write_at(b"x", 0).unwrap();
    umount2(&host.mount_dir(), MntFlags::MNT_DETACH).unwrap();
    // As long as the file is open the daemon serves it.
    file.write_at(b"y", 1).unwrap();
    let elapsed = daemon.stop();
    assert!(elapsed < STOP_BAR, "{elapsed:?}");
    assert_eq!(host.recorded_pid(), None);
    let log = host.log();
    assert!(log.contains("exit proxmox configuration filesystem (0)"));
    file.write_at(b"z", 2).unwrap_err();
    let daemon = host.start();
    assert_eq!(fs::read(host.path("open")).unwrap(), b"xy");
    daemon.stop();
}

#[test]
fn quick_cycles_never_hang() {
    const CYCLES: u32 = 30;
    let host = Host::new();
    for cycle in 0..CYCLES {
        let daemon = host.start();
        fs::write(host.path("f"), cycle.to_string()).unwrap();
        let elapsed = daemon.stop();
        assert!(elapsed < STOP_BAR, "cycle {cycle}: {elapsed:?}");
    }
    let daemon = host.start();
    assert_eq!(
        fs::read_to_string(host.path("f")).unwrap(),
        (CYCLES - 1).to_string()
    );
    daemon.stop();
}

#[test]
fn a_stop_right_after_the_start_is_orderly_too() {
    let host = Host::new();
    for _ in 0..10 {
        let daemon = host.spawn(["-f", "-l"]);
        wait::until("the first signs of life", Duration::from_secs(10), || {
            host.pid_file().exists().then_some(())
        });
        let exit = daemon.end_with(Signal::SIGTERM);
        assert_eq!(exit.status.unwrap().code(), Some(0), "{}", host.log());
        assert!(exit.elapsed < STOP_BAR);
        assert!(!proc::is_mounted(&host.mount_dir()));
    }
}
