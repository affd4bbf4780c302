//! Clients that do not finish the handshake, may not connect, or play tricks with files. After each of them the server
//! serves a well-behaved client, and nothing of theirs is left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::harness::{self, Test};
use support::qb::Client;
use support::raw::{self, DATA_PATH, HEADER_PATH, RingFiles, ShmClient};
use support::service::{self, ECHO, Process, eventually};
use support::target::{Footprint, Target, become_user, directories_of};

const TESTS: &[Test] = &[
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
    ("unfinished_handshakes", unfinished_handshakes),
    ("handshakes_in_pieces", handshakes_in_pieces),
    (
        "strangers_get_nothing_and_take_nothing",
        strangers_get_nothing_and_take_nothing,
    ),
    ("a_burst_of_connects", a_burst_of_connects),
    ("a_flood_of_strangers", a_flood_of_strangers),
    ("refusals_are_logged", refusals_are_logged),
    ("full_shared_memory_is_logged", full_shared_memory_is_logged),
];

fn main() -> ExitCode {
    harness::main(TESTS, |role, arguments| match role {
        "server" => service::run_server(arguments),
        "stranger" => run_stranger(arguments),
        "racer" => run_racer(arguments),
        other => panic!("role {other}"),
    })
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
            ring.header.write_all_at(path.as_bytes(), offset).unwrap();
        }
    }
    drop(client);
    target.check();
    for file in &files {
        assert_eq!(fs::read(file).unwrap(), b"precious");
    }
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
    let [service, uid, gid, action] = arguments else {
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
        "flood" => {
            let is_over = AtomicBool::new(false);
            println!("flooding");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    io::stdin().read_to_end(&mut Vec::new()).unwrap();
                    is_over.store(true, Ordering::Relaxed);
                });
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = raw::connect_service(service).unwrap();
                    assert_eq!(
                        raw::handshake(&mut stream, 12328).unwrap().error,
                        -libc::EACCES
                    );
                }
            });
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
        now.descriptors <= target.before.descriptors + 16 + 1,
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

/// A permitted client gets in at every try, at once, and so does its request.
fn a_flood_of_strangers() {
    let mut target = Target::start("shm");
    let mut strangers: Vec<_> = (0..4)
        .map(|_| Process::start("stranger", &[&target.name, "1000", "1000", "flood"]))
        .collect();
    for stranger in &mut strangers {
        assert_eq!(stranger.line(), "flooding");
    }
    for _ in 0..50 {
        let mut client = Client::connect(&target.name).unwrap();
        assert_eq!(client.call(ECHO, b"x").unwrap().body, b"x");
        let now = Footprint::of(target.server.pid());
        assert!(now.directories <= 2, "{now:?}");
    }
    for stranger in strangers {
        stranger.finish();
    }
    target.check();
}

/// A server that logs to a file.
struct Logging {
    target: Target,
    log: tempfile::NamedTempFile,
}

impl Logging {
    fn start(options: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let option = format!("log={}", log.path().display());
        let target = Target::start_with("shm", &[&[option.as_str()], options].concat());
        Self { target, log }
    }

    /// Lines about refusals.
    fn refusals(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log.path()).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains("refused an IPC client"));
        lines.map(str::to_owned).collect()
    }
}

fn refusals_are_logged() {
    let server = Logging::start(&[]);
    let arguments = [&server.target.name, "65534", "65533", "refused"];
    let mut refused = Process::start("stranger", &arguments);
    assert_eq!(refused.line(), "done");
    let lines = server.refusals();
    assert_eq!(lines.len(), 1, "200 clients were refused: {lines:?}");
    for part in [
        "EACCES",
        "uid=65534",
        "gid=65533",
        &format!("pid={}", refused.pid()),
    ] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    refused.finish();
}

/// A small filesystem, unmounted when dropped.
struct SmallMemory(tempfile::TempDir);

impl SmallMemory {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (flags, size) = (MsFlags::empty(), Some("size=4m"));
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, size).unwrap();
        Self(directory)
    }
}

impl Drop for SmallMemory {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn full_shared_memory_is_logged() {
    let memory = SmallMemory::mount();
    let mut server = Logging::start(&[&format!("shm={}", memory.0.path().display())]);
    // The files of the client that tried the server may still be there.
    let mut first = None;
    eventually("there is space for one client", || {
        first = Client::connect(&server.target.name).ok();
        first.is_some()
    });
    for _ in 0..20 {
        let error = Client::connect(&server.target.name).map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
    let lines = server.refusals();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "No space left",
        "uid=0",
        &format!("pid={}", std::process::id()),
    ] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    assert!(server.target.server.is_alive());
}
