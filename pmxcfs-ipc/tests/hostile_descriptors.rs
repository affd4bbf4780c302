//! Clients that send descriptors along, among them their own end of the connection: the kernel keeps it open for as
//! long as nobody has read it. After each of them the server serves a well-behaved client, and nothing of theirs is left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use support::harness::{self, Test};
use support::raw::{self, SocketClient};
use support::service::{self, ECHO, PATTERN, eventually};
use support::target::{Footprint, Target, message};

const TESTS: &[Test] = &[
    ("instead_of_requests", instead_of_requests),
    ("with_the_byte_of_a_request", with_the_byte_of_a_request),
    ("many_after_a_request", many_after_a_request),
    ("during_the_handshake", during_the_handshake),
    ("with_datagrams", with_datagrams),
    (
        "on_the_stream_of_datagram_clients",
        on_the_stream_of_datagram_clients,
    ),
    ("from_one_client_to_another", from_one_client_to_another),
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        other => panic!("role {other}"),
    })
}

/// Sends bytes with descriptors.
fn send_with(socket: &impl AsFd, bytes: &[u8], descriptors: &[&dyn AsFd]) {
    let descriptors: Vec<_> = descriptors
        .iter()
        .map(|descriptor| descriptor.as_fd().as_raw_fd())
        .collect();
    sendmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

fn instead_of_requests() {
    let mut target = Target::start("shm");
    for count in [1, 2, 30] {
        let client = target.connect();
        for _ in 0..count {
            send_with(&client.stream, b"x", &[&client.stream]);
        }
    }
    target.check();
}

/// The request is answered, its byte need not be read.
fn with_the_byte_of_a_request() {
    let mut target = Target::start("shm");
    for _ in 0..3 {
        let mut client = target.connect();
        client.post_message(&message(ECHO, 20, b"1234"));
        send_with(&client.stream, b"x", &[&client.stream]);
        assert_eq!(&client.receive()[24..], b"1234");
    }
    target.check();
}

fn many_after_a_request() {
    let mut target = Target::start("shm");
    for _ in 0..3 {
        let mut client = target.connect();
        client.send(ECHO, b"1234");
        for _ in 0..30 {
            send_with(
                &client.stream,
                b"x",
                &[&client.stream, &client.request.data],
            );
        }
        // A long answer, so that some of the bytes arrive while the server is busy.
        client.send(PATTERN, &4000u32.to_le_bytes());
    }
    target.check();
}

fn during_the_handshake() {
    let mut target = Target::start("shm");
    for bytes in [1, 23, 24] {
        let stream = raw::connect_service(&target.name).unwrap();
        let mut request = [0; 24];
        request[..4].copy_from_slice(&(-1i32).to_le_bytes());
        send_with(&stream, &request[..bytes], &[&stream]);
    }
    target.check();
}

/// Datagrams are answered without them.
fn with_datagrams() {
    let mut target = Target::start("socket");
    for _ in 0..3 {
        let client = SocketClient::connect(&target.name, 12328);
        for _ in 0..3 {
            let datagram = message(ECHO, 20, b"1234");
            send_with(
                &client.messages,
                &datagram,
                &[&client.messages, &client.stream],
            );
            assert_eq!(&client.receive().unwrap()[24..], b"1234");
        }
        let open = Footprint::of(target.server.pid()).descriptors;
        assert!(open <= target.before.descriptors + 3, "{open} descriptors");
        send_with(&client.messages, b"x", &[&client.stream]);
    }
    target.check();
}

fn on_the_stream_of_datagram_clients() {
    let mut target = Target::start("socket");
    for _ in 0..3 {
        let client = SocketClient::connect(&target.name, 12328);
        client.send(&message(ECHO, 20, b"1234")).unwrap();
        for _ in 0..30 {
            send_with(&client.stream, b"x", &[&client.stream, &client.messages]);
        }
        client.send(&message(ECHO, 20, b"1234")).unwrap();
        client.receive().unwrap();
    }
    target.check();
}

/// Two connections keep each other alive.
fn from_one_client_to_another() {
    let mut target = Target::start("shm");
    let (mut first, mut second) = (target.connect(), target.connect());
    for client in [&mut first, &mut second] {
        client.send(ECHO, b"1234");
        client.receive();
    }
    send_with(&first.stream, b"x", &[&second.stream]);
    send_with(&second.stream, b"x", &[&first.stream]);
    first.stream.write_all(b"x").unwrap();
    drop((first, second));
    eventually("both are gone", || {
        Footprint::of(target.server.pid()).descriptors == target.before.descriptors
    });
    target.check();
}
