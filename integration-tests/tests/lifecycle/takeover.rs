//! A mount that outlives the process: kills, planned changes, and what keeps a daemon from going on with it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::daemon::{binary, control_program};
use integration_tests::{Host, Supervisor, proc, wait};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::users::{
    Inhabitant, await_more, filled_host, looks, number, readers, report, while_read, writer,
};
use crate::{STOP_BAR, hold_instance_lock};

const PATIENCE: Duration = Duration::from_secs(20);

/// Longest that programs may wait for a process that cannot go on.
pub(crate) const WAIT_BAR: Duration = Duration::from_secs(8);

fn reload(host: &Host) -> std::process::Output {
    let mut command = Command::new(control_program());
    command.arg("--run-dir").arg(host.run_dir()).arg("reload");
    command.output().unwrap()
}

#[test]
fn readers_notice_no_kill() {
    let host = filled_host();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let looks = readers(&host, 5);
    let inhabitant = Inhabitant::start(&host);
    let longest = while_read(&host, looks, |counts| {
        for _ in 0..number("PMXCFS_KILLS", 10) {
            await_more(counts, 100);
            supervisor.kill();
            supervisor.start();
        }
        await_more(counts, 100);
    });
    inhabitant.end();
    report(longest);
    assert!(longest < WAIT_BAR, "{longest:?}");
    supervisor.stop();
}

#[test]
fn each_change_is_made_once_across_kills() {
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let writers = (0..4).map(|number| ("a writer", writer(&host, number)));
    while_read(&host, writers.collect(), |counts| {
        for _ in 0..number("PMXCFS_KILLS", 10) {
            await_more(counts, 5);
            supervisor.kill();
            supervisor.start();
        }
        await_more(counts, 5);
    });
    supervisor.stop();
}

/// A host with a program that a test may replace.
fn host_with_own_program() -> (Host, PathBuf) {
    let host = filled_host();
    let program = host.root().join("pmxcfs");
    fs::copy(binary(), &program).unwrap();
    (host.with_program(&program), program)
}

#[test]
fn readers_notice_no_change_of_the_program() {
    let (host, program) = host_with_own_program();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let pid = supervisor.pid();
    let looks = readers(&host, 5);
    let inhabitant = Inhabitant::start(&host);
    let longest = while_read(&host, looks, |counts| {
        for _ in 0..number("PMXCFS_CHANGES", 10) {
            await_more(counts, 100);
            // As a package manager replaces it.
            let new = program.with_extension("new");
            fs::copy(binary(), &new).unwrap();
            fs::rename(&new, &program).unwrap();
            let before = supervisor.ready_count();
            let output = reload(&host);
            assert!(output.status.success(), "{output:?}\n{}", host.log());
            supervisor.await_ready(before);
            let runs = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
            assert_eq!(runs, program);
        }
        await_more(counts, 100);
    });
    inhabitant.end();
    report(longest);
    assert_eq!(supervisor.pid(), pid);
    assert!(!host.restart_flag().exists());
    supervisor.stop();
}

#[test]
fn a_restart_leaves_the_mount_and_a_stop_does_not() {
    let host = Host::new();
    let (programs, jobs) = (host.root().join("bin"), host.root().join("jobs"));
    fs::create_dir(&programs).unwrap();
    let systemctl = programs.join("systemctl");
    // Answers the daemon's question for jobs as systemd does.
    fs::write(&systemctl, format!("#!/bin/sh\ncat {}\n", jobs.display())).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    let path = std::env::var("PATH").unwrap();
    supervisor.set("PATH", &format!("{}:{path}", programs.display()));
    supervisor.set("PMXCFS_UNIT", "a.service");
    supervisor.start();
    // Without an answer it is a stop.
    supervisor.signal(Signal::SIGTERM);
    supervisor.await_exit();
    assert!(!proc::is_mounted(&host.mount_dir()));
    supervisor.start();
    let looks = looks(&host);
    let inhabitant = Inhabitant::start(&host);
    fs::write(&jobs, "812 a.service restart running\n").unwrap();
    while_read(&host, looks, |counts| {
        for _ in 0..5 {
            await_more(counts, 100);
            supervisor.signal(Signal::SIGTERM);
            assert_eq!(supervisor.await_exit().code(), Some(0), "{}", host.log());
            assert_eq!(host.recorded_pid(), None);
            supervisor.start();
        }
        await_more(counts, 100);
    });
    inhabitant.end();
    fs::write(&jobs, "813 a.service stop running\n").unwrap();
    supervisor.stop();
}

#[test]
fn a_daemon_without_a_manager_changes_the_program_too() {
    let host = Host::new();
    let daemon = host.start_in_background();
    while_read(&host, looks(&host), |counts| {
        for _ in 0..3 {
            await_more(counts, 100);
            let output = reload(&host);
            assert!(output.status.success(), "{output:?}\n{}", host.log());
        }
        await_more(counts, 100);
    });
    assert_eq!(host.recorded_pid(), Some(daemon.pid()));
    assert!(daemon.stop() < STOP_BAR);
}

/// Kernels before 6.9 cannot send requests again.
#[test]
fn on_an_old_kernel_a_change_goes_on_and_a_kill_does_not() {
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.set("PMXCFS_NO_RESEND", "1");
    supervisor.start();
    while_read(&host, looks(&host), |counts| {
        for _ in 0..5 {
            await_more(counts, 100);
            let before = supervisor.ready_count();
            assert!(reload(&host).status.success(), "{}", host.log());
            supervisor.await_ready(before);
        }
    });
    assert!(!host.log().contains("a new one begins"), "{}", host.log());
    let kept = File::open(host.path("d/f")).unwrap();
    supervisor.kill();
    supervisor.start();
    let log = host.log();
    assert!(
        log.contains("the kernel cannot send unanswered requests again"),
        "{log}"
    );
    kept.read_exact_at(&mut [0; 7], 0).unwrap_err();
    assert_eq!(fs::read(host.path("d/f")).unwrap(), b"content");
    supervisor.stop();
}

#[test]
fn programs_wait_only_so_long_for_a_daemon_that_does_not_come() {
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    fs::write(host.path("f"), "content").unwrap();
    supervisor.kill();
    let lock = hold_instance_lock(&host);
    let begin = Instant::now();
    supervisor.spawn();
    fs::read(host.path("f")).unwrap_err();
    assert!(begin.elapsed() < WAIT_BAR, "{:?}", begin.elapsed());
    lock.unlock().map_err(|(_lock, errno)| errno).unwrap();
    supervisor.await_ready(1);
    assert!(host.log().contains("not been served within"));
    assert_eq!(fs::read(host.path("f")).unwrap(), b"content");
    supervisor.stop();
}

#[test]
fn what_is_not_what_it_claims_is_refused() {
    type Harm<'a> = &'a dyn Fn(&Supervisor<'_>, &Host);
    const CONNECTION: &str = "pmxcfs-connection";
    const TABLES: &str = "pmxcfs-tables";
    let null = || File::open("/dev/null").unwrap();
    let other_host = Host::new();
    let mut other = Supervisor::new(&other_host, ["-f", "-l"]);
    other.start();
    let cases: [(&str, Harm<'_>, &str); 7] = [
        (
            "no connection",
            &|supervisor, _| supervisor.keep(CONNECTION, null()),
            "not (10, 229), the FUSE device",
        ),
        (
            "an idle device",
            &|supervisor, _| {
                let device = File::options().read(true).write(true).open("/dev/fuse");
                supervisor.keep(CONNECTION, device.unwrap());
            },
            "a new one begins",
        ),
        (
            "another daemon's connection",
            &|supervisor, _| supervisor.keep_that_of(&other, CONNECTION),
            "not the one that is mounted",
        ),
        (
            "another daemon's tables",
            &|supervisor, _| supervisor.keep_that_of(&other, TABLES),
            "of another connection",
        ),
        (
            "no tables",
            &|supervisor, _| supervisor.keep(TABLES, null()),
            "a new one begins",
        ),
        (
            "missing tables",
            &|supervisor, _| supervisor.let_go(TABLES),
            "were not passed",
        ),
        (
            "somebody unmounted it",
            &|_, host| umount2(&host.mount_dir(), MntFlags::MNT_DETACH).unwrap(),
            "a new one begins",
        ),
    ];
    for (name, harm, words) in cases {
        let host = Host::new();
        let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
        supervisor.start();
        fs::write(host.path("f"), name).unwrap();
        supervisor.kill();
        harm(&supervisor, &host);
        supervisor.start();
        assert!(host.log().contains(words), "{name}:\n{}", host.log());
        assert_eq!(fs::read_to_string(host.path("f")).unwrap(), name);
        // Going on works with the new one.
        supervisor.kill();
        supervisor.start();
        let log = host.log();
        assert_eq!(log.matches("going on with the mount").count(), 1, "{log}");
        supervisor.stop();
    }
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.keep("a stranger's", null());
    supervisor.start();
    let words = "not for this program: a stranger";
    assert!(host.log().contains(words), "{}", host.log());
    supervisor.let_go("a stranger's");
    supervisor.stop();
    fs::write(other_host.path("f"), "not disturbed").unwrap();
    other.stop();
}

#[test]
fn a_stop_in_the_middle_of_a_takeover_ends_the_mount() {
    for _ in 0..5 {
        let host = Host::new();
        let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
        supervisor.start();
        fs::write(host.path("f"), "x").unwrap();
        supervisor.kill();
        supervisor.spawn();
        let status = format!("/proc/{}/status", supervisor.pid());
        wait::until("the signals to be taken over", PATIENCE, || {
            let text = fs::read_to_string(&status).ok()?;
            let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
            let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
            (mask & (1 << (Signal::SIGTERM as u32 - 1)) != 0).then_some(())
        });
        supervisor.stop();
        assert_eq!(host.recorded_pid(), None);
    }
}

/// The kernel and the tables know them by these numbers, also after a change to another version. A new one comes last; another order is
/// another layout of the tables.
#[test]
fn generated_files_and_links_keep_their_numbers() {
    const FIRST: u64 = 1 << 63;
    let host = Host::new();
    let daemon = host.start();
    let names = [
        "local",
        "qemu-server",
        "openvz",
        "lxc",
        ".version",
        ".members",
    ];
    let names = names.into_iter();
    let names = names.chain([".vmlist", ".rrd", ".clusterlog", ".debug"]);
    for (number, name) in (FIRST..).zip(names) {
        let found = fs::symlink_metadata(host.path(name)).unwrap().ino();
        assert_eq!(found, number, "{name}");
    }
    daemon.stop();
}

#[test]
fn an_unmount_from_outside_empties_the_store() {
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    assert_eq!(supervisor.kept(), ["pmxcfs-connection", "pmxcfs-tables"]);
    wait::until("the unmount", PATIENCE, || {
        nix::mount::umount(&host.mount_dir()).ok()
    });
    let status = supervisor.await_exit();
    assert_eq!(status.code(), Some(0), "{}", host.log());
    wait::until("the store to be empty", PATIENCE, || {
        supervisor.kept().is_empty().then_some(())
    });
    supervisor.start();
    supervisor.stop();
}

/// Their place in the log is a pipe that nobody reads: whoever logs waits.
#[test]
fn a_daemon_whose_threads_all_hang_is_replaced_and_nobody_notices() {
    const LIMIT: Duration = Duration::from_secs(3);
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let looks = looks(&host);
    supervisor.kill();
    let log = host.root().join("unread");
    nix::unistd::mkfifo(&log, Mode::S_IRWXU).unwrap();
    let mut fifo = File::options();
    fifo.read(true).write(true);
    supervisor.set("WATCHDOG_USEC", &LIMIT.as_micros().to_string());
    supervisor.spawn_with(move |command| {
        command.arg("-d").stdout(fifo.open(log).unwrap());
    });
    while_read(&host, looks, |counts| {
        let mut seen = (supervisor.alive_count(), Instant::now());
        wait::until("the watchdog", Duration::from_secs(60), || {
            if supervisor.alive_count() != seen.0 {
                seen = (supervisor.alive_count(), Instant::now());
            }
            (seen.1.elapsed() > LIMIT).then_some(())
        });
        supervisor.signal(Signal::SIGABRT);
        supervisor.await_exit();
        supervisor.start();
        await_more(counts, 100);
    });
    supervisor.stop();
}

#[test]
fn a_lazy_unmount_from_outside_is_noticed_and_mended() {
    let host = Host::new();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.set("WATCHDOG_USEC", "300000");
    supervisor.start();
    fs::write(host.path("f"), "x").unwrap();
    // A process of its own: it may have to wait for a daemon.
    let mut holder = Command::new("sleep");
    holder
        .arg("1000")
        .stdin(File::open(host.path("f")).unwrap());
    let mut holder = holder.spawn().unwrap();
    wait::until("signs of life", PATIENCE, || {
        (supervisor.alive_count() > 2).then_some(())
    });
    umount2(&host.mount_dir(), MntFlags::MNT_DETACH).unwrap();
    let mut seen = (supervisor.alive_count(), Instant::now());
    wait::until("no more of them", PATIENCE, || {
        if supervisor.alive_count() != seen.0 {
            seen = (supervisor.alive_count(), Instant::now());
        }
        (seen.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    supervisor.signal(Signal::SIGABRT);
    supervisor.await_exit();
    supervisor.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"x");
    supervisor.stop();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_program_that_cannot_be_executed_costs_no_mount() {
    let (host, program) = host_with_own_program();
    let mut supervisor = Supervisor::new(&host, ["-f", "-l"]);
    supervisor.start();
    let pid = supervisor.pid();
    while_read(&host, looks(&host), |counts| {
        fs::remove_file(&program).unwrap();
        let output = reload(&host);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("No such file"), "{said}");
        await_more(counts, 100);
        assert!(proc::is_running(pid));

        // No program of this machine, so that the change fails when it is too late.
        fs::write(&program, "\x7fELF is not enough").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let child = std::thread::scope(|scope| {
            let asking = scope.spawn(|| reload(&host));
            assert_eq!(supervisor.await_exit().code(), Some(255));
            assert!(host.log().contains("cannot execute the installed program"));
            fs::remove_file(&program).unwrap();
            fs::copy(binary(), &program).unwrap();
            supervisor.start();
            asking.join().unwrap()
        });
        assert!(child.status.success(), "it waits for who serves: {child:?}");
        await_more(counts, 100);
    });
    supervisor.stop();
}
