//! The service that tests talk to, in a process of its own, and clients in theirs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_ipc::{
    Access, Answer, Handler, PeerCredentials, Request, Server, ServerConfig, Transport,
};

use super::runtime::Runtime;

/// Answers with the request's body.
pub const ECHO: i32 = 1;
/// Answers with as many pattern bytes as the body, a u32, says.
pub const PATTERN: i32 = 2;
/// Answers after as many microseconds of work as the body, a u32, says. A long request.
pub const WORK: i32 = 3;
/// Panics.
pub const PANIC: i32 = 4;
/// Answers with the errno that the body, a u32, says.
pub const FAIL: i32 = 5;
/// Answers with pid, uid, gid of the peer and 1 for read-write, a u32 each.
pub const WHO: i32 = 6;

/// As [`WORK`], but not known to be long.
pub const SPIN: i32 = 7;

/// Bounds on what a request of random bytes can ask for.
const LONGEST_WORK: Duration = Duration::from_secs(1);
const LARGEST_PATTERN: usize = 2 * 1024 * 1024;

/// Byte `index` of a pattern.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| u8::try_from(index % 251).expect("small"))
        .collect()
}

struct TestService;

impl Handler for TestService {
    fn authorize(&self, peer: &PeerCredentials) -> Option<Access> {
        match (peer.uid, peer.gid) {
            (_, 33) => Some(Access::ReadOnly),
            (0, 0) => Some(Access::ReadWrite),
            _ => None,
        }
    }

    fn is_long(&self, request: &Request<'_>) -> bool {
        request.id == WORK
    }

    fn handle(&self, request: &Request<'_>) -> Answer {
        let number = || u32::from_le_bytes(request.body[..4].try_into().expect("a number"));
        match request.id {
            ECHO => Ok(Bytes::from(request.body.to_vec())),
            PATTERN => Ok(Bytes::from(pattern(LARGEST_PATTERN.min(number() as usize)))),
            WORK | SPIN => {
                let end = Instant::now() + Duration::from_micros(number().into()).min(LONGEST_WORK);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                Ok(Bytes::new())
            }
            PANIC => panic!("asked for"),
            FAIL => Err(i32::try_from(number()).expect("an errno")),
            WHO => {
                let peer = request.peer;
                let fields = [
                    u32::try_from(peer.pid).expect("a pid"),
                    peer.uid,
                    peer.gid,
                    u32::from(request.access == Access::ReadWrite),
                ];
                Ok(Bytes::from(fields.map(u32::to_le_bytes).concat()))
            }
            _ => Err(libc::ECHRNG),
        }
    }
}

/// Runs the service in this process.
pub fn start_in_process(service: &str) -> (Server, Runtime) {
    let config = ServerConfig {
        service: service.to_owned(),
        ..ServerConfig::default()
    };
    let runtime = Runtime::start();
    let server = Server::start(config, Arc::new(TestService), runtime.handle());
    (server.expect("the name is free"), runtime)
}

/// Runs the service until standard input says `stop` or ends. Arguments: name, transport, then `key=value`.
pub fn run_server(arguments: &[String]) {
    let [service, transport, options @ ..] = arguments else {
        panic!("name and transport");
    };
    let mut config = ServerConfig {
        service: service.clone(),
        transport: match transport.as_str() {
            "shm" => Transport::Shm,
            "socket" => Transport::Socket,
            other => panic!("transport {other}"),
        },
        ..ServerConfig::default()
    };
    for option in options {
        let (key, value) = option.split_once('=').expect("key=value");
        let number = || value.parse().expect("a number");
        match key {
            "max_connections" => config.max_connections = number(),
            "per_uid" => config.max_connections_per_uid = number(),
            "shm" => config.shm_directory = PathBuf::from(value),
            "log" => tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(File::create(value).expect("a path"))
                .init(),
            "directory" => config.socket_directory = Some(PathBuf::from(value)),
            "descriptors" => {
                let limit = number() as u64;
                nix::sys::resource::setrlimit(
                    nix::sys::resource::Resource::RLIMIT_NOFILE,
                    limit,
                    limit,
                )
                .expect("lowering a limit");
            }
            other => panic!("option {other}"),
        }
    }
    let runtime = Runtime::start();
    let server = match Server::start(config, Arc::new(TestService), runtime.handle()) {
        Ok(server) => server,
        Err(error) => {
            println!("error {}", error.raw_os_error().unwrap_or(-1));
            return;
        }
    };
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a pipe");
    let is_complete = server.stop(Instant::now() + Duration::from_secs(1));
    println!("stopped {is_complete}");
}

/// This binary in another role.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a role.
    pub fn start(role: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--role", role])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts");
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of output, without its end; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// Writes a line to the process.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("not closed");
        writeln!(input, "{line}").expect("the process reads");
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Kills the process and collects it.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Closes its input, waits for its end, and returns the rest of its output.
    pub fn finish(mut self) -> String {
        self.input = None;
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{status}: {rest}");
        rest.trim_end().to_owned()
    }

    /// Waits for its end; the signal that it died of.
    pub fn signal(&mut self) -> Option<i32> {
        self.child.wait().expect("it is ours").signal()
    }

    /// Whether it is still running.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }
}

impl Drop for Process {
    /// Lets the process end by itself, so that it cleans up; kills it if it does not.
    fn drop(&mut self) {
        self.input = None;
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.is_alive() {
            if Instant::now() > deadline {
                let _already_dead = self.child.kill();
            }
            std::thread::yield_now();
        }
    }
}

/// A service name that no other test uses.
pub fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{number}", std::process::id())
}

/// Starts a service and waits until it listens.
pub fn start_server(name: &str, transport: &str, options: &[&str]) -> Process {
    let mut server = Process::start("server", &[&[name, transport], options].concat());
    assert_eq!(server.line(), "ready");
    server
}

/// Waits for a condition; fails after five seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "not within five seconds: {what}");
        std::thread::yield_now();
    }
}
