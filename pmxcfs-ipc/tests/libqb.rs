//! Messages, sizes, errors and users, with clients of the unmodified libqb.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::process::ExitCode;

use support::client::{self, errno, number};
use support::harness::{self, Test};
use support::qb::{Client, FOREVER};
use support::service::{
    self, ECHO, FAIL, PANIC, PATTERN, Process, eventually, pattern, start_server, unique_name,
};
use support::target::directories_of;

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
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "client" => client::run_client(arguments),
        "hammer" => run_hammer(arguments),
        other => panic!("role {other}"),
    })
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
