//! Who may ask, what happens when nobody answers, and what clients of the control socket cannot do.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use integration_tests::identity::Identity;
use integration_tests::{Host, daemon};
use nix::sys::signal::Signal;

use crate::{HEALTHY, ask, control_socket, report, run};

/// Longest time that a stop may take, whatever clients do.
const STOP_BAR: Duration = Duration::from_secs(2);

#[test]
fn only_root_is_answered() {
    let host = Host::new();
    let daemon = host.start();
    let socket = control_socket(&host);
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid()),
        (0o600, 0),
        "for root only"
    );
    for who in [Identity::NOBODY, Identity::www_data()] {
        let refused = who.run(|| UnixStream::connect(&socket)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    }
    // Even if the modes let everybody in.
    for path in [host.run_dir(), socket.clone()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    for who in [Identity::NOBODY, Identity::www_data()] {
        let mut stream = who.run(|| UnixStream::connect(&socket)).unwrap();
        // The connection may be gone by now.
        let _sent = stream.write_all(b"report\n");
        let mut answer = Vec::new();
        let _broken = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    ask(&host, ["status"]).expect(HEALTHY);
    daemon.stop();
}

#[test]
fn others_are_told_that_only_root_may_ask() {
    let host = Host::new();
    let daemon = host.start();
    // Where everybody can run it.
    let program = host.root().join("pmxcfs-ctl");
    fs::copy(daemon::control_program(), &program).unwrap();
    let mut command = Command::new(program);
    command.arg("--root-dir").arg(host.root()).arg("status");
    let complaint = run(command.uid(65534).gid(65534)).complaint();
    assert!(
        complaint.starts_with("pmxcfs-ctl: only root may ask the daemon"),
        "{complaint}"
    );
    daemon.stop();
}

#[test]
fn without_a_daemon_it_says_so() {
    let host = Host::new();
    let socket = control_socket(&host);
    for command in [&["status"][..], &["status", "--json"], &["metrics"]] {
        let complaint = run(&mut crate::command(&host, command)).complaint();
        let expected = format!(
            "pmxcfs-ctl: is pmxcfs running? There is no control socket {}\n",
            socket.display()
        );
        assert_eq!(complaint, expected);
    }
    let daemon = host.start();
    ask(&host, ["status"]).expect(HEALTHY);
    daemon.stop();
    assert!(!socket.exists(), "a stop takes the socket away");
    host.start().kill();
    let complaint = ask(&host, ["status"]).complaint();
    assert!(
        complaint.contains("is pmxcfs running? Nobody listens at"),
        "{complaint}"
    );
    let daemon = host.start_in_background();
    let report = report(&host);
    assert_eq!(
        report["pid"],
        daemon.pid(),
        "the next start replaces the socket"
    );
    daemon.stop();
    assert!(!socket.exists());
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_gone() {
    let host = Host::new();
    let daemon = host.start();
    daemon.signal(Signal::SIGSTOP);
    let complaint = ask(&host, ["status"]).complaint();
    daemon.signal(Signal::SIGCONT);
    assert!(
        complaint.contains("does not answer within 10 s"),
        "{complaint}"
    );
    ask(&host, ["status"]).expect(HEALTHY);
    daemon.stop();
}

/// Clients that take a place and do nothing with it: silent, in the midst of a request, and without reading the answer.
fn hanging_clients(host: &Host) -> Vec<UnixStream> {
    let requests: [&[u8]; 3] = [b"", b"rep", b"report\n"];
    let hang = |request: &&[u8]| {
        let mut stream = UnixStream::connect(control_socket(host)).unwrap();
        stream.write_all(request).unwrap();
        stream
    };
    requests.iter().cycle().take(30).map(hang).collect()
}

#[test]
fn clients_that_hang_harm_nobody() {
    let host = Host::new();
    let daemon = host.start();
    let mut ipc = host.ipc();
    for round in 0..3 {
        let hanging = hanging_clients(&host);
        ask(&host, ["status"]).expect(HEALTHY);
        fs::write(host.path("f"), round.to_string()).unwrap();
        ipc.version().unwrap();
        drop(hanging);
    }
    let threads = report(&host)["process"]["thread_count"].clone();
    let hanging = hanging_clients(&host);
    assert_eq!(
        report(&host)["process"]["thread_count"],
        threads,
        "clients cost no threads"
    );
    let elapsed = daemon.stop();
    assert!(elapsed < STOP_BAR, "{elapsed:?}");
    assert!(!control_socket(&host).exists());
    drop(hanging);
}

#[test]
fn nonsense_is_refused_or_ignored() {
    let host = Host::new();
    let daemon = host.start();
    for request in [
        &b"\n"[..],
        b"reports\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\xff\n",
    ] {
        let mut stream = UnixStream::connect(control_socket(&host)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A daemon that closes with something unread resets the connection after its answer.
        let _reset = stream.read_to_end(&mut answer);
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with("unknown request"), "{error}");
    }
    let mut stream = UnixStream::connect(control_socket(&host)).unwrap();
    let _refused = stream.write_all(&[b'x'; 100_000]);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"", "a request without an end");
    ask(&host, ["status"]).expect(HEALTHY);
    daemon.stop();
}

#[test]
fn a_stop_while_many_ask_is_quick() {
    let host = Host::new();
    let daemon = host.start();
    let elapsed = std::thread::scope(|scope| {
        let (asked, answered) = std::sync::mpsc::channel();
        for _ in 0..4 {
            let (host, asked) = (&host, asked.clone());
            scope.spawn(move || {
                // Until the socket is gone.
                while let Ok(mut stream) = UnixStream::connect(control_socket(host)) {
                    let mut answer = Vec::new();
                    let _sent = stream.write_all(b"report\n");
                    let _reset = stream.read_to_end(&mut answer);
                    let _nobody_listens = asked.send(answer.len());
                }
            });
        }
        for _ in 0..40 {
            assert!(answered.recv_timeout(crate::PATIENCE).unwrap() > 1000);
        }
        daemon.stop()
    });
    assert!(elapsed < STOP_BAR, "{elapsed:?}");
}
