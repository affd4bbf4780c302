//! Clients that write nonsense into the rings they share with the server. After each of them the server serves a
//! well-behaved client, and nothing of theirs is left: no descriptors, threads, mappings or files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use support::fault;
use support::harness::{self, Test};
use support::qb::request_header;
use support::raw::{
    COMPLETE, READ_POSITION, REF_COUNT, SEMAPHORE, ShmClient, WORD_SIZE, WRITE_POSITION,
};
use support::service::{self, ECHO, PATTERN, Process, WORK, unique_name};
use support::target::{IMPOSSIBLE_SIZES, Target, message};

const TESTS: &[Test] = &[
    ("a_size_field_that_lies", a_size_field_that_lies),
    ("chunk_lengths_that_cannot_be", chunk_lengths_that_cannot_be),
    ("chunks_that_are_not_there", chunks_that_are_not_there),
    (
        "positions_of_the_server_are_its_own",
        positions_of_the_server_are_its_own,
    ),
    (
        "a_response_read_position_outside_the_ring",
        a_response_read_position_outside_the_ring,
    ),
    ("truncated_files", truncated_files),
    (
        "files_truncated_during_copies",
        files_truncated_during_copies,
    ),
    ("other_faults_still_kill", other_faults_still_kill),
    ("two_requests_and_one_byte", two_requests_and_one_byte),
    ("bytes_without_requests", bytes_without_requests),
    (
        "requests_without_reading_responses",
        requests_without_reading_responses,
    ),
    ("disconnect_by_message", disconnect_by_message),
    ("half_closed_stream", half_closed_stream),
    ("random_bytes_everywhere", random_bytes_everywhere),
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "faulty" => fault::run(arguments),
        other => panic!("role {other}"),
    })
}

fn a_size_field_that_lies() {
    let mut target = Target::start("shm");
    for size in IMPOSSIBLE_SIZES {
        for id in [ECHO, WORK, -3] {
            let mut client = target.connect();
            client.post_message(&message(id, size, b"12345678"));
            client.ring_bell();
            client.expect_hang_up();
        }
    }
    // Smaller than the message but possible: the rest does not count.
    let mut client = target.connect();
    client.post_message(&message(ECHO, 20, b"12345678"));
    client.ring_bell();
    assert_eq!(&client.receive()[24..], b"1234");
    drop(client);
    target.check();
}

fn chunk_lengths_that_cannot_be() {
    let mut target = Target::start("shm");
    for length in [
        0,
        1,
        4,
        15,
        12329,
        16384,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFF0,
        u32::MAX,
    ] {
        let mut client = target.connect();
        client.put_chunk(length, COMPLETE, &request_header(ECHO, 0));
        client.request.post();
        client.ring_bell();
        client.expect_hang_up();
    }
    target.check();
}

fn chunks_that_are_not_there() {
    let mut target = Target::start("shm");
    for magic in [0, 0xA110_CED0, 0xD0D0_D0D0, 0xA1A1_A1A0, u32::MAX] {
        let mut client = target.connect();
        client.put_chunk(16, magic, &request_header(ECHO, 0));
        client.request.post();
        client.ring_bell();
        client.expect_hang_up();
    }
    for posted in [1, 2, 1000, 0x8000_0000, u32::MAX] {
        let mut client = target.connect();
        client.request.set(SEMAPHORE, posted);
        client.ring_bell();
        client.expect_hang_up();
    }
    target.check();
}

const STRANGE_NUMBERS: [u32; 6] = [0, 1, 4096, 5000, 0x8000_0000, u32::MAX];

/// Everything but the response ring's read position can be overwritten without the server noticing.
fn positions_of_the_server_are_its_own() {
    let mut target = Target::start("shm");
    for number in STRANGE_NUMBERS {
        let mut client = target.connect();
        for _ in 0..3 {
            client.send(ECHO, b"before");
            assert_eq!(&client.receive()[24..], b"before");
            // The test's own ring arithmetic uses the word size, so that one is put back.
            let words = client.request.words();
            client.send(ECHO, b"meanwhile");
            for offset in [
                WRITE_POSITION,
                READ_POSITION,
                WORD_SIZE,
                REF_COUNT,
                8216,
                8240,
            ] {
                client.request.set(offset, number);
                client.event.set(offset, number);
            }
            for offset in [WRITE_POSITION, WORD_SIZE, REF_COUNT] {
                client.response.set(offset, number);
            }
            client.ring_bell();
            client.request.set(WORD_SIZE, words);
            client.response.set(WORD_SIZE, words);
            assert_eq!(&client.receive()[24..], b"meanwhile");
        }
    }
    target.check();
}

fn a_response_read_position_outside_the_ring() {
    let mut target = Target::start("shm");
    for position in [4096, 4097, 0x8000_0000, u32::MAX] {
        let mut client = target.connect();
        client.response.set(READ_POSITION, position);
        client.send(ECHO, b"x");
        client.expect_hang_up();
    }
    target.check();
}

fn address_space_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmSize:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn truncated_files() {
    let mut target = Target::start("shm");
    let before = address_space_kib(target.server.pid());
    for round in 0..200 {
        let mut client = ShmClient::connect(&target.name, 1 << 20);
        client.send(ECHO, b"before");
        assert_eq!(&client.receive()[24..], b"before");
        client.post_message(&message(PATTERN, 20, &500_000u32.to_le_bytes()));
        let files = [
            &client.request.header,
            &client.request.data,
            &client.response.header,
            &client.response.data,
        ];
        files[round % 4].set_len(0).unwrap();
        client.ring_bell();
        // Without its semaphore a request is not seen: then the end of the connection is the test.
        if round % 4 == 0 {
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        client.expect_hang_up();
    }
    target.check();
    let grown = address_space_kib(target.server.pid()).saturating_sub(before);
    // Two MiB for each connection would be more; two threads that remove files reserve 64 MiB each for what they allocate.
    assert!(
        grown < 200 * 1024,
        "{grown} KiB of address space are left over"
    );
}

/// Pages come and go while the server writes to them. The second response never fits, so all these connections end.
fn files_truncated_during_copies() {
    let mut target = Target::start("shm");
    for _ in 0..30 {
        let mut client = ShmClient::connect(&target.name, 1 << 20);
        let data = client.response.data.try_clone().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    data.set_len(0).unwrap();
                    data.set_len(1_052_672).unwrap();
                }
            });
            for _ in 0..2 {
                client.post_message(&message(PATTERN, 20, &900_000u32.to_le_bytes()));
            }
            client.ring_bell();
            client.expect_hang_up();
            is_over.store(true, Ordering::Relaxed);
        });
    }
    target.check();
}

/// The guard is for the rings of clients. A fault in the daemon's own mappings, or a SIGBUS that somebody sends, ends
/// the process as it would without a server.
fn other_faults_still_kill() {
    for cause in ["fault", "signal"] {
        let mut process = Process::start("faulty", &[&unique_name(), cause]);
        assert_eq!(process.line(), "now");
        assert_eq!(process.signal(), Some(Signal::SIGBUS as i32), "{cause}");
    }
}

fn two_requests_and_one_byte() {
    let mut target = Target::start("shm");
    let mut client = target.connect();
    for round in 1..=20u8 {
        // More than are handled in one turn, too.
        for number in 0..round {
            client.post_message(&[&request_header(ECHO, 1)[..], &[number]].concat());
        }
        client.ring_bell();
        for number in 0..round {
            assert_eq!(client.receive()[24..], [number]);
        }
    }
    drop(client);
    target.check();
}

fn bytes_without_requests() {
    let mut target = Target::start("shm");
    let mut client = target.connect();
    client.stream.write_all(&vec![7; 1_000_000]).unwrap();
    for byte in 0..2000 {
        client
            .stream
            .write_all(&[u8::try_from(byte % 256).unwrap()])
            .unwrap();
    }
    client.send(ECHO, b"one at last");
    assert_eq!(&client.receive()[24..], b"one at last");
    drop(client);
    target.check();
}

fn requests_without_reading_responses() {
    let mut target = Target::start("shm");
    let mut client = target.connect();
    for _ in 0..10 {
        client.post_message(&message(PATTERN, 20, &4000u32.to_le_bytes()));
    }
    client.ring_bell();
    client.expect_hang_up();
    target.check();
}

fn disconnect_by_message() {
    let mut target = Target::start("shm");
    let mut client = target.connect();
    client.send(-3, b"");
    client.expect_hang_up();
    assert_eq!(client.request.get(REF_COUNT), 0);
    target.check();
}

fn half_closed_stream() {
    let mut target = Target::start("shm");
    let mut client = target.connect();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_hang_up();
    assert_eq!(client.request.get(REF_COUNT), 0);
    target.check();
}

/// A simple generator; the seed is printed when the test fails.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

fn random_bytes_everywhere() {
    let seed = std::env::var("SEED").map_or_else(
        |_unset| u64::from(std::process::id()) * 0x9E37_79B9 + 1,
        |seed| seed.parse().unwrap(),
    );
    println!("SEED={seed}");
    let mut random = Random(seed);
    let mut target = Target::start("shm");
    for _ in 0..60 {
        let mut client = target.connect();
        for _ in 0..40 {
            let size = u32::try_from(random.next(512)).unwrap();
            client.post_message(&message(PATTERN, 20, &size.to_le_bytes()));
            for _ in 0..random.next(4) {
                let ring = [&client.request, &client.response, &client.event];
                let ring = ring[usize::try_from(random.next(3)).unwrap()];
                let value = u32::try_from(random.next(1 << 32)).unwrap();
                let value = value >> random.next(32);
                match random.next(4) {
                    0 => ring.set(4 * random.next(3), value),
                    1 => ring.set(8204 + 4 * random.next(11), value),
                    2 => ring.write_raw(4 * random.next(4096), value),
                    _ => ring.write_raw(4 * random.next(200), value),
                }
            }
            let words = 4096;
            client.request.set(WORD_SIZE, words);
            if client.stream.write_all(&[0]).is_err() {
                break;
            }
        }
        assert!(target.server.is_alive(), "the server died");
    }
    target.check();
}
