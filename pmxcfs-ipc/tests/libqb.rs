//! The server against the unmodified client library of libqb.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::ExitCode;

use support::harness::{self, Test};
use support::qb::Client;
use support::service::{self, ECHO, PATTERN, pattern, start_server, unique_name};

const TESTS: &[Test] = &[("shm_messages_of_all_sizes", shm_messages_of_all_sizes)];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        other => panic!("role {other}"),
    })
}

fn messages_of_all_sizes(transport: &str, largest: usize) {
    let name = unique_name();
    let _server = start_server(&name, transport, &[]);
    let mut client = Client::connect(&name).unwrap();
    let sizes = [0, 1, 3, 4, 5, 100, 4095, 4096, 65535, 300_000, largest];
    for size in sizes {
        let body = pattern(size);
        let reply = client.call(PATTERN, &u32::try_from(size).unwrap().to_le_bytes());
        let reply = reply.unwrap();
        assert!(reply.body == body, "{size}: {}", reply.error);
        let body = &body[..size.min(largest - 100)];
        let reply = client.call(ECHO, body).unwrap();
        assert!(reply.body == body && reply.error == 0 && reply.id == ECHO);
    }
}

fn shm_messages_of_all_sizes() {
    messages_of_all_sizes("shm", 1_048_576 - 24);
}
