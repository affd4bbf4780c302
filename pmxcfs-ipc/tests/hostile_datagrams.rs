//! Clients and strangers that send nonsense to the datagram sockets. After each of them the server serves a
//! well-behaved client, and nothing of theirs is left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendto};
use pmxcfs_ipc::wire::address::abstract_address;

use support::harness::{self, Test};
use support::qb::request_header;
use support::raw::{self, SocketClient};
use support::service::{self, ECHO, PATTERN, Process};
use support::target::{IMPOSSIBLE_SIZES, Target, become_user, message};

const TESTS: &[Test] = &[
    ("datagrams_that_lie", datagrams_that_lie),
    ("datagrams_of_strangers", datagrams_of_strangers),
    ("datagram_responses_not_read", datagram_responses_not_read),
    ("a_truncated_control_file", a_truncated_control_file),
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "stranger" => run_stranger(arguments),
        other => panic!("role {other}"),
    })
}

fn datagrams_that_lie() {
    let mut target = Target::start("socket");
    let too_large = message(ECHO, 20_000, &vec![0; 20_000 - 16]);
    let lies = IMPOSSIBLE_SIZES.map(|size| message(ECHO, size, b"12345678"));
    let short: [&[u8]; 3] = [b"", b"1", &[0; 15]];
    let bye = message(-3, 16, b"");
    let all = short
        .into_iter()
        .chain(lies.iter().map(Vec::as_slice))
        .chain([&too_large[..], &bye]);
    for datagram in all {
        let mut client = SocketClient::connect(&target.name, 12328);
        client.send(datagram).unwrap();
        raw::expect_hang_up(&mut client.stream);
    }
    let client = SocketClient::connect(&target.name, 12328);
    client.send(&message(ECHO, 20, b"12345678")).unwrap();
    assert_eq!(&client.receive().unwrap()[24..], b"1234");
    drop(client);
    target.check();
}

/// Sends a request to a socket that is not its own, and says what came of it.
fn run_stranger(arguments: &[String]) {
    become_user(65534, 65534);
    let address = abstract_address(&arguments[0]).unwrap();
    let datagram = [&request_header(ECHO, 8)[..], b"intruder"].concat();
    let socket = raw::datagram_socket();
    let flags = MsgFlags::MSG_DONTWAIT;
    let result = sendto(socket.as_raw_fd(), &datagram, &address, flags);
    println!("{:?}", result.map_err(|errno| errno as i32));
}

fn datagrams_of_strangers() {
    let mut target = Target::start("socket");
    let client = SocketClient::connect(&target.name, 12328);
    let request_socket = format!("{}-request", client.welcome.names[1]);
    let intrude = || {
        let mut stranger = Process::start("stranger", &[&request_socket]);
        stranger.line()
    };
    for _ in 0..3 {
        assert_eq!(intrude(), "Ok(24)", "nobody can prevent that");
    }
    client.send(&message(ECHO, 20, b"mine")).unwrap();
    assert_eq!(
        &client.receive().unwrap()[24..],
        b"mine",
        "not the intruder's"
    );
    assert_eq!(intrude(), format!("Err({})", libc::EPERM));
    client.send(&message(ECHO, 20, b"more")).unwrap();
    assert_eq!(&client.receive().unwrap()[24..], b"more");
    drop(client);
    target.check();
}

fn datagram_responses_not_read() {
    let mut target = Target::start("socket");
    let mut client = SocketClient::connect(&target.name, 1 << 20);
    let request = message(PATTERN, 20, &200_000u32.to_le_bytes());
    for _ in 0..2000 {
        match client.send(&request) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET) => break,
            Err(error) => panic!("{error}"),
        }
    }
    raw::expect_hang_up(&mut client.stream);
    drop(client);
    target.check();
}

fn a_truncated_control_file() {
    let mut target = Target::start("socket");
    let client = SocketClient::connect(&target.name, 12328);
    fs::write(&client.welcome.names[0], []).unwrap();
    client.send(&message(ECHO, 20, b"fine")).unwrap();
    assert_eq!(&client.receive().unwrap()[24..], b"fine");
    fs::remove_file(&client.welcome.names[0]).unwrap();
    drop(client);
    target.check();
}
