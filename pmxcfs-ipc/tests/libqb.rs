//! The server against the unmodified client library of libqb.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use support::harness::{self, Test};
use support::qb::{Client, FOREVER};
use support::raw;
use support::service::{
    self, ECHO, FAIL, PANIC, PATTERN, Process, WHO, WORK, eventually, pattern, start_server,
    unique_name,
};

const TESTS: &[Test] = &[
    ("shm_messages_of_all_sizes", shm_messages_of_all_sizes),
    ("socket_messages_of_all_sizes", socket_messages_of_all_sizes),
    (
        "socket_limits_with_default_sysctls",
        socket_limits_with_default_sysctls,
    ),
    (
        "thousands_of_messages_of_changing_size",
        thousands_of_messages_of_changing_size,
    ),
    ("errors_reach_the_client", errors_reach_the_client),
    (
        "what_does_not_fit_is_an_error",
        what_does_not_fit_is_an_error,
    ),
    ("agreed_size_is_clamped", agreed_size_is_clamped),
    ("many_clients_at_once", many_clients_at_once),
    ("users_get_what_they_may", users_get_what_they_may),
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
        "a_slow_request_stalls_nobody_else",
        a_slow_request_stalls_nobody_else,
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
    assert!(
        Uid::effective().is_root(),
        "these tests make clients of several users and need root"
    );
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "client" => run_client(arguments),
        "hammer" => run_hammer(arguments),
        other => panic!("role {other}"),
    })
}

/// A client with given ids that connects, says what came of it, and obeys.
fn run_client(arguments: &[String]) {
    let [service, uid, gid] = arguments else {
        panic!("service, uid, gid");
    };
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(gid.parse().unwrap())).unwrap();
    setuid(Uid::from_raw(uid.parse().unwrap())).unwrap();
    let mut client = match Client::connect(service) {
        Ok(client) => client,
        Err(error) => {
            println!("refused {}", error.raw_os_error().unwrap());
            return;
        }
    };
    println!("connected");
    for line in io::stdin().lines() {
        match line.unwrap().as_str() {
            "who" => println!("{:?}", client.call(WHO, &[]).unwrap().body),
            "big" => {
                let size = 1_048_576 - 24;
                let reply = client.call(PATTERN, &number(size)).unwrap();
                println!("{}", reply.body == pattern(size as usize));
            }
            "work" => {
                let result = client.call(WORK, &number(300_000));
                println!("{:?}", result.map_err(|error| error.raw_os_error()).is_ok());
            }
            // Sends and does not wait for the answer.
            "send" => {
                client.send(WORK, &number(300_000)).unwrap();
                println!("sent");
            }
            // Leaves the connection to a child and dies.
            "bequeath" => {
                fcntl(client.stream(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                let mut heir = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
                kill(nix::unistd::getpid(), Signal::SIGKILL).unwrap();
                heir.wait().unwrap();
            }
            other => panic!("command {other}"),
        }
    }
}

/// A client that exchanges messages of many sizes and checks every answer.
fn run_hammer(arguments: &[String]) {
    let [service, count] = arguments else {
        panic!("service, count");
    };
    let mut client = Client::connect(service).unwrap();
    println!("connected");
    let bytes = pattern(1 << 18);
    let mut state = std::process::id();
    for _ in 0..count.parse::<u32>().unwrap() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let magnitude = 2 + (state >> 8) % 17; // up to 256 KiB
        let size = (state >> 3) % (1 << magnitude) / 3;
        let body = &bytes[..size as usize];
        assert!(client.call(ECHO, body).unwrap().body == body);
        let reply = client.call(PATTERN, &number(3 * size)).unwrap();
        assert!(reply.body == &bytes[..3 * size as usize]);
    }
}

fn number(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

/// Directories of this server in shared memory.
fn directories_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("qb-{pid}-");
    fs::read_dir("/dev/shm")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&prefix)
        })
        .collect()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

const LARGEST: u32 = 1_048_576 - 24;

fn messages_of_all_sizes(transport: &str) {
    let name = unique_name();
    let _server = start_server(&name, transport, &[]);
    let mut client = Client::connect(&name).unwrap();
    let largest_request = usize::try_from(client.agreed_size()).unwrap() - 16;
    let sizes = [0, 1, 3, 4, 5, 100, 4095, 4096, 65_535, 300_000, 1_000_000];
    for size in sizes.into_iter().chain([LARGEST]) {
        let body = pattern(size as usize);
        let reply = client.call(PATTERN, &number(size)).unwrap();
        assert!(reply.body == body, "{size}: {}", reply.error);
        let body = &body[..body.len().min(largest_request - 8)];
        let reply = client.call(ECHO, body).unwrap();
        assert!(reply.body == body && reply.error == 0 && reply.id == ECHO);
    }
}

fn shm_messages_of_all_sizes() {
    messages_of_all_sizes("shm");
}

fn socket_messages_of_all_sizes() {
    let _limit = WriteMemoryLimit::set(4 << 20);
    messages_of_all_sizes("socket");
}

/// Changes `net.core.wmem_max` until it is dropped.
struct WriteMemoryLimit(String);

impl WriteMemoryLimit {
    const FILE: &'static str = "/proc/sys/net/core/wmem_max";

    fn set(limit: u32) -> Self {
        let before = fs::read_to_string(Self::FILE).unwrap();
        fs::write(Self::FILE, limit.to_string()).unwrap();
        Self(before)
    }
}

impl Drop for WriteMemoryLimit {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).unwrap();
    }
}

/// With Debian's defaults a client of the SOCKET transport cannot send more than 425952 bytes with header. The
/// server can: it is privileged.
fn socket_limits_with_default_sysctls() {
    let _limit = WriteMemoryLimit::set(212_992);
    let name = unique_name();
    let _server = start_server(&name, "socket", &[]);
    let mut client = Client::connect(&name).unwrap();
    let body = pattern(425_952 - 16);
    assert!(client.call(ECHO, &body).unwrap().body == body);
    let too_large = pattern(425_953 - 16);
    assert_eq!(errno(client.call(ECHO, &too_large)), libc::EMSGSIZE);
    let reply = client.call(PATTERN, &number(LARGEST)).unwrap();
    assert!(reply.body == pattern(LARGEST as usize));
}

fn thousands_of_messages_of_changing_size() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let _server = start_server(&name, transport, &[]);
        let hammers: Vec<_> = (0..4)
            .map(|_| Process::start("hammer", &[&name, "400"]))
            .collect();
        for hammer in hammers {
            assert_eq!(hammer.finish(), "connected");
        }
    }
}

fn errors_reach_the_client() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let _server = start_server(&name, transport, &[]);
        let mut client = Client::connect(&name).unwrap();
        let mut error_of = |id, body: &[u8]| {
            let reply = client.call(id, body).unwrap();
            assert_eq!((reply.id, reply.body), (id, &[][..]));
            reply.error
        };
        assert_eq!(error_of(FAIL, &number(2)), -libc::ENOENT);
        assert_eq!(error_of(PANIC, &[]), -libc::EIO);
        for unknown in [0, -1, -2, 12345, i32::MIN, i32::MAX] {
            assert_eq!(error_of(unknown, &[]), -libc::ECHRNG);
        }
        assert_eq!(error_of(ECHO, &[]), 0);
    }
}

fn what_does_not_fit_is_an_error() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let _server = start_server(&name, transport, &[]);
        let mut client = Client::connect_with(&name, 20_000).unwrap();
        let reply = client.call(PATTERN, &number(20_000 - 24)).unwrap();
        assert_eq!((reply.error, reply.body.len()), (0, 20_000 - 24));
        for size in [20_000 - 23, 1_048_576, 4_000_000] {
            let reply = client.call(PATTERN, &number(size)).unwrap();
            assert_eq!((reply.error, reply.body.len()), (-libc::EMSGSIZE, 0));
        }
        let too_large = vec![0; 20_001];
        assert_eq!(errno(client.call(ECHO, &too_large)), libc::EMSGSIZE);
        assert_eq!(client.call(ECHO, b"goes on").unwrap().body, b"goes on");
    }
}

fn agreed_size_is_clamped() {
    let name = unique_name();
    let _server = start_server(&name, "shm", &[]);
    let table = [
        (0, 12328),
        (16, 12328),
        (12329, 12329),
        (1_048_576, 1_048_576),
        (2_147_483_647, 1_048_576),
        (4_294_967_295, 1_048_576),
    ];
    for (wanted, agreed) in table {
        let mut client = Client::connect_with(&name, wanted).unwrap();
        assert_eq!(client.agreed_size(), agreed);
        assert_eq!(client.call(ECHO, b"x").unwrap().body, b"x");
    }
}

fn many_clients_at_once() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let server = start_server(&name, transport, &[]);
        let mut clients: Vec<_> = (0..150)
            .map(|_| Client::connect_with(&name, 0).unwrap())
            .collect();
        for round in 0..5u32 {
            for client in &mut clients {
                client.send(ECHO, &number(round)).unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.receive(FOREVER).unwrap().body, number(round));
            }
        }
        drop(clients);
        eventually("nothing is left", || {
            directories_of(server.pid()).is_empty()
        });
    }
}

fn users_get_what_they_may() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let server = start_server(&name, transport, &[]);
        for (uid, gid, read_write) in [(0, 0, 1), (33, 33, 0), (0, 33, 0), (1000, 33, 0)] {
            let ids = [uid.to_string(), gid.to_string()];
            let mut client = Process::start("client", &[&name, &ids[0], &ids[1]]);
            assert_eq!(client.line(), "connected", "{uid}:{gid}");
            client.tell("who");
            let who = [client.pid(), uid, gid, read_write].map(u32::to_le_bytes);
            assert_eq!(client.line(), format!("{:?}", who.concat()));
            client.tell("big");
            assert_eq!(client.line(), "true");
            client.finish();
        }
        for (uid, gid) in [("65534", "65534"), ("33", "34"), ("0", "65534")] {
            let mut client = Process::start("client", &[&name, uid, gid]);
            assert_eq!(client.line(), format!("refused {}", libc::EACCES));
            client.finish();
        }
        eventually("nothing is left", || {
            directories_of(server.pid()).is_empty()
        });
    }
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
        let server = start_server(&name, transport, &["workers=1"]);
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

fn a_slow_request_stalls_nobody_else() {
    for transport in ["shm", "socket"] {
        let name = unique_name();
        let _server = start_server(&name, transport, &[]);
        let mut slow = Process::start("client", &[&name, "0", "0"]);
        assert_eq!(slow.line(), "connected");
        let mut client = Client::connect(&name).unwrap();
        slow.tell("work");
        let answer = std::thread::spawn(move || slow.line());
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !answer.is_finished() {
            let start = Instant::now();
            client.call(ECHO, b"x").unwrap();
            longest = longest.max(start.elapsed());
            count += 1;
        }
        assert_eq!(answer.join().unwrap(), "true");
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
    let name = unique_name();
    let mut server = start_server(&name, "shm", &["workers=1"]);
    let mut first = Client::connect(&name).unwrap();
    let mut second = Client::connect(&name).unwrap();
    first.send(WORK, &number(300_000)).unwrap();
    eventually("the first is taken", || {
        untaken_requests(server.pid(), &name) == 0
    });
    second.send(ECHO, b"never taken").unwrap();
    server.tell("stop");
    assert_eq!(first.receive(FOREVER).unwrap().error, 0);
    let start = Instant::now();
    assert_eq!(errno(second.receive(FOREVER)), libc::EBADMSG);
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

fn stop_is_bounded_by_its_deadline() {
    let name = unique_name();
    let mut server = start_server(&name, "shm", &["workers=1"]);
    let mut busy = Client::connect(&name).unwrap();
    let mut idle = Client::connect(&name).unwrap();
    busy.send(WORK, &number(4_000_000)).unwrap();
    eventually("it is taken", || untaken_requests(server.pid(), &name) == 0);
    let start = Instant::now();
    server.tell("stop");
    assert_eq!(server.line(), "stopped false");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(errno(idle.call(ECHO, b"x")), libc::ENOTCONN);
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
        let refused = loop {
            match Client::connect_with(&name, 0) {
                Ok(client) => clients.push(client),
                Err(error) => break error.raw_os_error().unwrap(),
            }
        };
        // Who is accepted before the request has arrived is closed without an answer.
        let reasons = [libc::EMFILE, libc::ENOTCONN, libc::ECONNRESET, libc::EPIPE];
        assert!(reasons.contains(&refused), "{refused}");
        assert!(clients.len() > 10, "{}", clients.len());
        for _ in 0..50 {
            assert!(reasons.contains(&errno(Client::connect(&name).map(drop))));
        }
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
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o777);
    let address = nix::sys::socket::UnixAddr::new(&path).unwrap();
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
