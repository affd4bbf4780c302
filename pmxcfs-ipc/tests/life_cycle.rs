//! Connections and servers that end, in order or not, and limits; with clients of the unmodified libqb.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::socket::UnixAddr;

use support::client::{self, errno, number};
use support::harness::{self, Test};
use support::qb::{Client, FOREVER};
use support::raw;
use support::service::{self, ECHO, Process, SPIN, WORK, eventually, start_server, unique_name};
use support::target::directories_of;

const TESTS: &[Test] = &[
    (
        "www_data_cannot_fill_roots_places",
        www_data_cannot_fill_roots_places,
    ),
    (
        "a_killed_client_leaves_nothing",
        a_killed_client_leaves_nothing,
    ),
    (
        "an_inherited_connection_lives_on",
        an_inherited_connection_lives_on,
    ),
    (
        "slow_requests_stall_nobody_else",
        slow_requests_stall_nobody_else,
    ),
    (
        "stop_answers_what_is_in_progress",
        stop_answers_what_is_in_progress,
    ),
    (
        "stop_is_bounded_by_its_deadline",
        stop_is_bounded_by_its_deadline,
    ),
    (
        "idle_clients_notice_a_stop_and_reconnect",
        idle_clients_notice_a_stop_and_reconnect,
    ),
    (
        "a_restart_cleans_up_after_a_kill",
        a_restart_cleans_up_after_a_kill,
    ),
    ("a_taken_name_is_an_error", a_taken_name_is_an_error),
    ("limits_refuse_with_eagain", limits_refuse_with_eagain),
    (
        "running_out_of_descriptors_is_survived",
        running_out_of_descriptors_is_survived,
    ),
    ("a_socket_in_the_file_system", a_socket_in_the_file_system),
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "client" => client::run_client(arguments),
        other => panic!("role {other}"),
    })
}

fn www_data_cannot_fill_roots_places() {
    let name = unique_name();
    let _server = start_server(&name, "shm", &["per_uid=2"]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Process::start("client", &[&name, "33", "33"]);
            let line = client.line();
            (client, line)
        })
        .collect();
    let lines: Vec<_> = clients.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines, ["connected", "connected", "refused 11"]);
    assert_eq!(
        Client::connect(&name)
            .unwrap()
            .call(ECHO, b"x")
            .unwrap()
            .body,
        b"x"
    );
    clients.truncate(1);
    eventually("the place is free again", || {
        Process::start("client", &[&name, "33", "33"]).line() == "connected"
    });
}

fn a_killed_client_leaves_nothing() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let server = start_server(&name, transport, &[]);
        let mut idle = Process::start("client", &[&name, "33", "33"]);
        let mut busy = Process::start("client", &[&name, "0", "0"]);
        assert_eq!(
            (idle.line(), busy.line()),
            ("connected".into(), "connected".into())
        );
        busy.tell("send");
        assert_eq!(busy.line(), "sent");
        assert_eq!(directories_of(server.pid()).len(), 2);
        idle.kill();
        busy.kill();
        eventually("nothing is left", || {
            directories_of(server.pid()).is_empty()
        });
        let mut client = Client::connect(&name).unwrap();
        assert_eq!(
            client.call(ECHO, b"still there").unwrap().body,
            b"still there"
        );
    }
}

fn an_inherited_connection_lives_on() {
    let name = unique_name();
    let server = start_server(&name, "shm", &[]);
    let mut client = Process::start("client", &[&name, "0", "0"]);
    assert_eq!(client.line(), "connected");
    client.tell("bequeath");
    eventually("the client is dead", || !client.is_alive());
    let mut other = Client::connect(&name).unwrap();
    assert_eq!(other.call(ECHO, b"x").unwrap().body, b"x");
    assert_eq!(
        directories_of(server.pid()).len(),
        2,
        "the heir has it open"
    );
    client.close_input();
    eventually("the heir is gone, too", || {
        directories_of(server.pid()).len() == 1
    });
}

fn slow_requests_stall_nobody_else() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let _server = start_server(&name, transport, &[]);
        let mut slow: Vec<_> = (0..3)
            .map(|_| Process::start("client", &[&name, "0", "0"]))
            .collect();
        for process in &mut slow {
            assert_eq!(process.line(), "connected");
        }
        let mut client = Client::connect(&name).unwrap();
        for process in &mut slow {
            process.tell("work");
        }
        let answers = std::thread::spawn(move || {
            for process in &mut slow {
                assert_eq!(process.line(), "true");
            }
        });
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !answers.is_finished() {
            let start = Instant::now();
            client.call(ECHO, b"x").unwrap();
            longest = longest.max(start.elapsed());
            count += 1;
        }
        answers.join().unwrap();
        assert!(
            count > 20 && longest < Duration::from_millis(250),
            "{count} calls, one took {longest:?}"
        );
    }
}

/// Requests that are posted and not taken, over all connections of a server.
fn untaken_requests(pid: u32, service: &str) -> u32 {
    directories_of(pid)
        .iter()
        .map(|directory| {
            let header = directory.join(format!("qb-request-{service}-header"));
            let bytes = fs::read(header).unwrap();
            u32::from_le_bytes(bytes[8208..8212].try_into().unwrap())
        })
        .sum()
}

fn stop_answers_what_is_in_progress() {
    for slow in [SPIN, WORK] {
        let name = unique_name();
        let mut server = start_server(&name, "shm", &[]);
        let mut first = Client::connect(&name).unwrap();
        let mut second = Client::connect(&name).unwrap();
        first.send(slow, &number(300_000)).unwrap();
        eventually("the first is taken", || {
            untaken_requests(server.pid(), &name) == 0
        });
        // Beside a long request it would be answered.
        if slow == SPIN {
            second.send(ECHO, b"never taken").unwrap();
        }
        server.tell("stop");
        assert_eq!(first.receive(FOREVER).unwrap().error, 0);
        let start = Instant::now();
        let expected = if slow == SPIN {
            libc::EBADMSG
        } else {
            libc::ENOTCONN
        };
        let outcome = match slow {
            SPIN => second.receive(FOREVER).map(drop),
            _ => second.call(ECHO, b"x").map(drop),
        };
        assert_eq!(errno(outcome), expected);
        assert!(
            start.elapsed() < Duration::from_millis(1500),
            "at once, not after two seconds"
        );
        assert_eq!(server.line(), "stopped true");
        assert_eq!(directories_of(server.pid()), Vec::<PathBuf>::new());
        for client in [&mut first, &mut second] {
            assert_eq!(errno(client.call(ECHO, b"x")), libc::ENOTCONN);
        }
    }
}

fn stop_is_bounded_by_its_deadline() {
    for slow in [SPIN, WORK] {
        let name = unique_name();
        let mut server = start_server(&name, "shm", &[]);
        let mut busy = Client::connect(&name).unwrap();
        let mut idle = Client::connect(&name).unwrap();
        busy.send(slow, &number(1_000_000)).unwrap();
        eventually("it is taken", || untaken_requests(server.pid(), &name) == 0);
        let start = Instant::now();
        server.tell("stop");
        assert_eq!(server.line(), "stopped false");
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        // The thread that would tell it may still be busy.
        let noticed = errno(idle.call(ECHO, b"x"));
        assert!(
            [libc::ENOTCONN, libc::EBADMSG].contains(&noticed),
            "{noticed}"
        );
        assert_eq!(directories_of(server.pid()), Vec::<PathBuf>::new());
    }
}

fn idle_clients_notice_a_stop_and_reconnect() {
    for (transport, expected) in [("shm", libc::ENOTCONN), ("socket", libc::ECONNREFUSED)] {
        let name = unique_name();
        let mut server = start_server(&name, transport, &[]);
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&name).unwrap()).collect();
        for client in &mut clients {
            client.call(ECHO, b"x").unwrap();
        }
        let start = Instant::now();
        server.tell("stop");
        assert_eq!(server.line(), "stopped true");
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        for client in &mut clients {
            let start = Instant::now();
            assert_eq!(errno(client.call(ECHO, b"x")), expected);
            assert!(start.elapsed() < Duration::from_secs(1));
        }
        assert_eq!(directories_of(server.pid()), Vec::<PathBuf>::new());
        assert_eq!(errno(Client::connect(&name).map(drop)), libc::ECONNREFUSED);
        let _successor = start_server(&name, transport, &[]);
        drop(clients);
        let mut client = Client::connect(&name).unwrap();
        assert_eq!(client.call(ECHO, b"again").unwrap().body, b"again");
    }
}

fn a_restart_cleans_up_after_a_kill() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let server = start_server(&name, transport, &[]);
        let mut clients: Vec<_> = (0..2)
            .map(|_| Process::start("client", &[&name, "33", "33"]))
            .collect();
        for client in &mut clients {
            assert_eq!(client.line(), "connected");
        }
        let dead = server.pid();
        server.kill();
        for client in clients {
            client.kill();
        }
        assert_eq!(directories_of(dead).len(), 2);
        let ours = format!("qb-request-{name}-data");
        let foreign = Directory::with(&format!("qb-{dead}-1-2-foreign"), "qb-request-cmap-data");
        let mixed = Directory::with(&format!("qb-{dead}-1-2-mixed"), &ours);
        fs::write(mixed.0.join("qb-request-cmap-data"), []).unwrap();
        let alive = Directory::with(&format!("qb-{}-1-2-alive", std::process::id()), &ours);
        let _link = Link::to(&alive.0, &format!("qb-{dead}-1-2-link"));

        let _successor = start_server(&name, transport, &[]);
        let mut left = directories_of(dead);
        left.sort();
        let link = PathBuf::from(format!("/dev/shm/qb-{dead}-1-2-link"));
        assert_eq!(left, [foreign.0.clone(), link, mixed.0.clone()]);
        for directory in [&mixed, &alive] {
            assert!(
                directory.0.join(&ours).exists(),
                "{}",
                directory.0.display()
            );
        }
    }
}

/// A directory in shared memory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn with(name: &str, file: &str) -> Self {
        let path = Path::new("/dev/shm").join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(file), []).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A symbolic link in shared memory, removed when dropped.
struct Link(PathBuf);

impl Link {
    fn to(target: &Path, name: &str) -> Self {
        let path = Path::new("/dev/shm").join(name);
        std::os::unix::fs::symlink(target, &path).unwrap();
        Self(path)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn a_taken_name_is_an_error() {
    let name = unique_name();
    let mut first = start_server(&name, "shm", &[]);
    let mut second = Process::start("server", &[&name, "shm"]);
    assert_eq!(second.line(), format!("error {}", libc::EADDRINUSE));
    second.finish();
    assert_eq!(
        Client::connect(&name)
            .unwrap()
            .call(ECHO, b"x")
            .unwrap()
            .body,
        b"x"
    );
    first.tell("stop");
    assert_eq!(first.line(), "stopped true");
    start_server(&name, "shm", &[]);
}

fn limits_refuse_with_eagain() {
    let name = unique_name();
    let _server = start_server(&name, "shm", &["max_connections=3"]);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&name).unwrap()).collect();
    assert_eq!(errno(Client::connect(&name).map(drop)), libc::EAGAIN);
    for client in &mut clients {
        assert_eq!(client.call(ECHO, b"x").unwrap().body, b"x");
    }
    clients.pop();
    eventually("a place is free", || Client::connect(&name).is_ok());
}

fn running_out_of_descriptors_is_survived() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let server = start_server(&name, transport, &["descriptors=60"]);
        let mut clients = Vec::new();
        // Who is accepted before the request has arrived is closed without an answer.
        let reasons = [libc::EMFILE, libc::ENOTCONN, libc::ECONNRESET, libc::EPIPE];
        let mut refusals = 0;
        while refusals < 50 {
            match Client::connect_with(&name, 0) {
                Ok(client) => {
                    // An earlier attempt held descriptors still when the last one was refused.
                    clients.push(client);
                    refusals = 0;
                }
                Err(error) => {
                    let refused = error.raw_os_error().unwrap();
                    assert!(reasons.contains(&refused), "{refused}");
                    refusals += 1;
                }
            }
        }
        assert!(clients.len() > 10, "{}", clients.len());
        for client in &mut clients {
            assert_eq!(client.call(ECHO, b"x").unwrap().body, b"x");
        }
        drop(clients);
        eventually("there are descriptors again", || {
            Client::connect(&name).is_ok()
        });
        eventually("nothing is left", || {
            directories_of(server.pid()).is_empty()
        });
    }
}

fn a_socket_in_the_file_system() {
    let name = unique_name();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(&name);
    fs::write(&path, "something old").unwrap();
    let option = format!("directory={}", directory.path().display());
    let mut server = start_server(&name, "shm", &[&option]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    let address = UnixAddr::new(&path).unwrap();
    let mut stream = raw::connect_stream(&address).unwrap();
    let welcome = raw::handshake(&mut stream, 12328).unwrap();
    let mut client = raw::ShmClient::open(stream, welcome);
    client.send(ECHO, b"through a path");
    assert_eq!(&client.receive()[24..], b"through a path");
    assert_eq!(errno(Client::connect(&name).map(drop)), libc::ECONNREFUSED);
    server.tell("stop");
    assert_eq!(server.line(), "stopped true");
    assert!(!path.exists());
}
