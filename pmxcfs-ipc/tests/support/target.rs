//! A server that is attacked, and what is looked at afterwards.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::qb::{Client, request_header};
use super::raw::ShmClient;
use super::service::{ECHO, PATTERN, Process, pattern, start_server, unique_name};

/// A server, and what it looked like before anybody did anything to it.
pub struct Target {
    /// Service name.
    pub name: String,
    /// The server's process.
    pub server: Process,
    /// Before anybody connected.
    pub before: Footprint,
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Mappings of files of connections.
    pub mapped_files: usize,
    /// Directories of connections.
    pub directories: usize,
}

impl Footprint {
    /// Looks at a process.
    pub fn of(pid: u32) -> Self {
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

/// Directories of a server in shared memory.
pub fn directories_of(pid: u32) -> Vec<PathBuf> {
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
    /// Starts a server.
    pub fn start(transport: &str) -> Self {
        Self::start_with(transport, &[])
    }

    /// Starts a server with options.
    pub fn start_with(transport: &str, options: &[&str]) -> Self {
        let name = unique_name();
        let server = start_server(&name, transport, options);
        let before = Footprint::of(server.pid());
        Client::connect(&name).unwrap().call(ECHO, b"warm").unwrap();
        Self {
            name,
            server,
            before,
        }
    }

    /// Connects with the smallest rings.
    pub fn connect(&self) -> ShmClient {
        ShmClient::connect(&self.name, 12328)
    }

    /// The server is alive and serves; nothing is left of others.
    pub fn check(&mut self) {
        assert!(self.server.is_alive(), "the server died");
        let mut client = Client::connect(&self.name).unwrap();
        let reply = client.call(PATTERN, &1_000_000u32.to_le_bytes()).unwrap();
        assert!(reply.body == pattern(1_000_000));
        assert_eq!(client.call(ECHO, b"fine").unwrap().body, b"fine");
        drop(client);
        let pid = self.server.pid();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Footprint::of(pid);
            if now == self.before {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "after five seconds there is {now:?} instead of {:?}",
                self.before
            );
            std::thread::yield_now();
        }
    }
}

/// A request with any size field.
pub fn message(id: i32, size_field: i32, body: &[u8]) -> Vec<u8> {
    let mut header = request_header(id, 0);
    header[8..12].copy_from_slice(&size_field.to_le_bytes());
    [&header[..], body].concat()
}

/// Size fields that a message of 24 bytes cannot have.
pub const IMPOSSIBLE_SIZES: [i32; 9] = [25, 26, 0x4000_0000, i32::MAX, 15, 1, 0, -1, i32::MIN];

/// Drops to the given ids.
pub fn become_user(uid: u32, gid: u32) {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(gid)).unwrap();
    setuid(Uid::from_raw(uid)).unwrap();
}
