//! Clients that break every rule of the protocol. After each of them the server serves a well-behaved client, and
//! nothing of theirs is left: no descriptors, threads, mappings or files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, sendto};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setuid};
use pmxcfs_ipc::wire::address::abstract_address;

use support::harness::{self, Test};
use support::qb::{Client, request_header};
use support::raw::{
    self, COMPLETE, DATA_PATH, HEADER_PATH, READ_POSITION, REF_COUNT, RingFiles, SEMAPHORE,
    ShmClient, SocketClient, WORD_SIZE, WRITE_POSITION,
};
use support::service::{
    self, ECHO, PATTERN, Process, WORK, eventually, pattern, start_server, unique_name,
};

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
    (
        "paths_in_the_headers_mean_nothing",
        paths_in_the_headers_mean_nothing,
    ),
    (
        "files_swapped_for_links_during_setup",
        files_swapped_for_links_during_setup,
    ),
    (
        "a_directory_swapped_for_a_link",
        a_directory_swapped_for_a_link,
    ),
    ("truncated_files", truncated_files),
    (
        "files_truncated_during_copies",
        files_truncated_during_copies,
    ),
    ("two_requests_and_one_byte", two_requests_and_one_byte),
    ("bytes_without_requests", bytes_without_requests),
    (
        "requests_without_reading_responses",
        requests_without_reading_responses,
    ),
    ("disconnect_by_message", disconnect_by_message),
    ("half_closed_stream", half_closed_stream),
    ("unfinished_handshakes", unfinished_handshakes),
    ("handshakes_in_pieces", handshakes_in_pieces),
    (
        "strangers_get_nothing_and_take_nothing",
        strangers_get_nothing_and_take_nothing,
    ),
    ("a_burst_of_connects", a_burst_of_connects),
    ("random_bytes_everywhere", random_bytes_everywhere),
    ("datagrams_that_lie", datagrams_that_lie),
    ("datagrams_of_strangers", datagrams_of_strangers),
    ("datagram_responses_not_read", datagram_responses_not_read),
    ("a_truncated_control_file", a_truncated_control_file),
];

fn main() -> ExitCode {
    assert!(
        Uid::effective().is_root(),
        "these tests make clients of several users and need root"
    );
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "stranger" => run_stranger(arguments),
        "racer" => run_racer(arguments),
        other => panic!("role {other}"),
    })
}

/// A server, and what it looked like before anybody did anything to it.
struct Target {
    name: String,
    server: Process,
    before: Footprint,
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    mapped_files: usize,
    directories: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            mapped_files: maps.lines().filter(|line| line.contains("/qb-")).count(),
            directories: directories_of(pid).len(),
        }
    }
}

fn directories_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("qb-{pid}-");
    fs::read_dir("/dev/shm")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&prefix)
        })
        .collect()
}

impl Target {
    fn start(transport: &str) -> Self {
        let name = unique_name();
        let server = start_server(&name, transport, &[]);
        let before = Footprint::of(server.pid());
        Client::connect(&name).unwrap().call(ECHO, b"warm").unwrap();
        Self {
            name,
            server,
            before,
        }
    }

    fn connect(&self) -> ShmClient {
        ShmClient::connect(&self.name, 12328)
    }

    /// The server is alive and serves; nothing is left of others.
    fn check(&mut self) {
        assert!(self.server.is_alive(), "the server died");
        let mut client = Client::connect(&self.name).unwrap();
        let reply = client.call(PATTERN, &1_000_000u32.to_le_bytes()).unwrap();
        assert!(reply.body == pattern(1_000_000));
        assert_eq!(client.call(ECHO, b"fine").unwrap().body, b"fine");
        drop(client);
        let pid = self.server.pid();
        eventually("nothing is left", || {
            let now = Footprint::of(pid);
            now == self.before || {
                std::thread::yield_now();
                false
            }
        });
    }
}

fn message(id: i32, size_field: i32, body: &[u8]) -> Vec<u8> {
    let mut header = request_header(id, 0);
    header[8..12].copy_from_slice(&size_field.to_le_bytes());
    [&header[..], body].concat()
}

const IMPOSSIBLE_SIZES: [i32; 9] = [25, 26, 0x4000_0000, i32::MAX, 15, 1, 0, -1, i32::MIN];

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

fn paths_in_the_headers_mean_nothing() {
    let mut target = Target::start("shm");
    let victims = tempfile::tempdir().unwrap();
    let files = ["header", "data"].map(|part| {
        let path = victims
            .path()
            .join(format!("qb-request-{}-{part}", target.name));
        fs::write(&path, "precious").unwrap();
        path
    });
    let client = target.connect();
    for ring in [&client.request, &client.response, &client.event] {
        for (file, offset) in files.iter().zip([HEADER_PATH, DATA_PATH]) {
            let path = format!("{}\0", file.display());
            std::os::unix::fs::FileExt::write_all_at(&ring.header, path.as_bytes(), offset)
                .unwrap();
        }
    }
    drop(client);
    target.check();
    for file in &files {
        assert_eq!(fs::read(file).unwrap(), b"precious");
    }
}

/// Drops to the given ids.
fn become_user(uid: u32, gid: u32) {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(gid)).unwrap();
    setuid(Uid::from_raw(uid)).unwrap();
}

/// As www-data, puts links to a victim in place of every file of the server that it can get at, until told to stop.
fn run_racer(arguments: &[String]) {
    let [server, victim] = arguments else {
        panic!("server, victim");
    };
    let server = server.parse().unwrap();
    become_user(33, 33);
    println!("racing");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            for directory in directories_of(server) {
                let Ok(entries) = fs::read_dir(directory) else {
                    continue;
                };
                for entry in entries.flatten() {
                    if fs::remove_file(entry.path()).is_ok() {
                        let _it_lost = symlink(victim, entry.path());
                    }
                }
            }
        }
    });
}

fn files_swapped_for_links_during_setup() {
    let mut target = Target::start("shm");
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let pid = target.server.pid().to_string();
    let mut racer = Process::start("racer", &[&pid, victim.to_str().unwrap()]);
    assert_eq!(racer.line(), "racing");
    let mut client = Process::start("stranger", &[&target.name, "33", "33", "reconnect"]);
    assert_eq!(client.line(), "done");
    client.finish();
    racer.finish();
    let metadata = fs::metadata(&victim).unwrap();
    assert_eq!((metadata.uid(), metadata.size()), (0, 8));
    // A link made between the server's unlink and its rmdir is the client's own litter.
    eventually("the server has nothing open", || {
        Footprint::of(target.server.pid()).descriptors == target.before.descriptors
    });
    for directory in directories_of(target.server.pid()) {
        assert_eq!(fs::metadata(&directory).unwrap().uid(), 33);
        fs::remove_dir_all(directory).unwrap();
    }
    target.check();
}

/// At the end the server removes what it made, not what has taken its place.
fn a_directory_swapped_for_a_link() {
    let mut target = Target::start("shm");
    let mut bystander = target.connect();
    let client = target.connect();
    let directory_of = |client: &ShmClient| {
        let name = Path::new(&client.welcome.names[0]);
        name.parent().unwrap().to_owned()
    };
    let (ours, theirs) = (directory_of(&client), directory_of(&bystander));
    let moved = ours.with_extension("moved");
    fs::rename(&ours, &moved).unwrap();
    symlink(&theirs, &ours).unwrap();
    let mut stream = client.stream.try_clone().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    raw::expect_hang_up(&mut stream);
    drop(client);
    Client::connect(&target.name)
        .unwrap()
        .call(ECHO, b"x")
        .unwrap();
    eventually("only two are left", || {
        Footprint::of(target.server.pid()).descriptors <= target.before.descriptors + 1
    });
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 6);
    bystander.send(ECHO, b"unharmed");
    assert_eq!(&bystander.receive()[24..], b"unharmed");
    drop(bystander);
    fs::remove_file(&ours).unwrap();
    fs::remove_dir_all(&moved).unwrap();
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
    for round in 0..100 {
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
    assert!(
        grown < 100 * 1024,
        "{grown} KiB of address space are left over"
    );
}

fn files_truncated_during_copies() {
    let mut target = Target::start("shm");
    for round in 0..40u64 {
        let mut client = ShmClient::connect(&target.name, 1 << 20);
        let data = client.response.data.try_clone().unwrap();
        for _ in 0..50 {
            if client.stream.write_all(&[]).is_err() || client.response.get(SEMAPHORE) > 5 {
                break;
            }
            client.post_message(&message(PATTERN, 20, &90_000u32.to_le_bytes()));
            if client.stream.write_all(&[1]).is_err() {
                break;
            }
            data.set_len(round * 25_000).unwrap();
            data.set_len(1_052_672).unwrap();
        }
        drop(client);
    }
    target.check();
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

fn unfinished_handshakes() {
    let mut target = Target::start("shm");
    let request = [0xff; 24];
    let mut streams: Vec<UnixStream> = (0..100)
        .map(|index| {
            let mut stream = raw::connect_service(&target.name).unwrap();
            stream.write_all(&request[..index % 24]).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    Client::connect(&target.name)
        .unwrap()
        .call(ECHO, b"x")
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    for stream in &mut streams {
        raw::expect_hang_up(stream);
    }
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    for id in [0i32, 1, -2, -3, i32::MIN] {
        let mut stream = raw::connect_service(&target.name).unwrap();
        let mut other = request;
        other[..4].copy_from_slice(&id.to_le_bytes());
        stream.write_all(&other).unwrap();
        raw::expect_hang_up(&mut stream);
    }
    target.check();
}

fn handshakes_in_pieces() {
    let mut target = Target::start("shm");
    let mut stream = raw::connect_service(&target.name).unwrap();
    let mut request = [0; 24];
    request[..4].copy_from_slice(&(-1i32).to_le_bytes());
    for byte in &request[..23] {
        stream.write_all(&[*byte]).unwrap();
        // A round trip in between, so that the server has seen the byte.
        Client::connect_with(&target.name, 0).unwrap();
    }
    // Bytes behind the request are wake-ups.
    stream.write_all(&[request[23], 1, 2, 3]).unwrap();
    let mut response = vec![0; 12328];
    stream.read_exact(&mut response).unwrap();
    let mut client = ShmClient::open(stream, raw::Welcome::parse(&response));
    client.send(ECHO, b"at last");
    assert_eq!(&client.receive()[24..], b"at last");
    drop(client);
    target.check();
}

/// A user that may not connect, or may, and does something over and over.
fn run_stranger(arguments: &[String]) {
    let [service, uid, gid, action, rest @ ..] = arguments else {
        panic!("service, uid, gid, action");
    };
    become_user(uid.parse().unwrap(), gid.parse().unwrap());
    match action.as_str() {
        "reconnect" => {
            for _ in 0..150 {
                let mut stream = raw::connect_service(service).unwrap();
                // The racer may have taken a file away already.
                let welcome = raw::handshake(&mut stream, 12328).unwrap();
                let _may_be_gone = RingFiles::open(&welcome.names[0], 8252);
            }
            println!("done");
        }
        "silent" => {
            let streams: Vec<_> = (0..500).map(|_| raw::connect_service(service)).collect();
            println!("{}", streams.iter().flatten().count());
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        "refused" => {
            for _ in 0..200 {
                let mut stream = raw::connect_service(service).unwrap();
                let welcome = raw::handshake(&mut stream, 12328).unwrap();
                assert_eq!(welcome.error, -libc::EACCES);
                assert_eq!(welcome.names, ["", "", ""]);
                raw::expect_hang_up(&mut stream);
            }
            println!("done");
        }
        "datagram" => {
            let address = abstract_address(&rest[0]).unwrap();
            let datagram = [&request_header(ECHO, 8)[..], b"intruder"].concat();
            let socket = raw::datagram_socket();
            let flags = MsgFlags::MSG_DONTWAIT;
            let result = sendto(socket.as_raw_fd(), &datagram, &address, flags);
            println!("{:?}", result.map_err(|errno| errno as i32));
        }
        other => panic!("action {other}"),
    }
}

fn strangers_get_nothing_and_take_nothing() {
    let mut target = Target::start("shm");
    let mut refused = Process::start("stranger", &[&target.name, "65534", "65534", "refused"]);
    assert_eq!(refused.line(), "done");
    refused.finish();
    let mut silent = Process::start("stranger", &[&target.name, "65534", "65534", "silent"]);
    assert_eq!(silent.line(), "500");
    let mut client = Client::connect(&target.name).unwrap();
    assert_eq!(client.call(ECHO, b"x").unwrap().body, b"x");
    let now = Footprint::of(target.server.pid());
    assert_eq!(now.directories, 1, "nothing is made for strangers");
    assert!(
        now.descriptors <= target.before.descriptors + 64 + 1,
        "{now:?}"
    );
    drop(client);
    silent.finish();
    target.check();
}

fn a_burst_of_connects() {
    let mut target = Target::start("shm");
    let pid = Pid::from_raw(i32::try_from(target.server.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut streams: Vec<_> = (0..400)
        .map(|_| {
            let mut stream = raw::connect_service(&target.name).unwrap();
            let mut request = [0; 24];
            request[..4].copy_from_slice(&(-1i32).to_le_bytes());
            stream.write_all(&request).unwrap();
            stream
        })
        .collect();
    kill(pid, Signal::SIGCONT).unwrap();
    for stream in &mut streams {
        let mut response = vec![0; 12328];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(raw::Welcome::parse(&response).error, 0);
    }
    drop(streams);
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

fn datagrams_of_strangers() {
    let mut target = Target::start("socket");
    let client = SocketClient::connect(&target.name, 12328);
    let request_socket = format!("{}-request", client.welcome.names[1]);
    let intrude = || {
        let arguments = [&target.name, "65534", "65534", "datagram", &request_socket];
        let mut stranger = Process::start("stranger", &arguments);
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
