//! Round trips of our server compared with those of libqb's own server.
//!
//! Both servers run in processes of their own, and every client is a process that uses libqb's client library. The
//! servers are measured alternately in short rounds, because a machine's speed changes from minute to minute; what is
//! printed are medians over the rounds, and medians of the ratio within a round.
//!
//! ```text
//! cargo bench -p pmxcfs-ipc                          all scenarios
//! cargo bench -p pmxcfs-ipc -- --rounds 30 100B      more rounds, matching scenarios
//! cargo bench -p pmxcfs-ipc -- --socket              the other transport
//! cargo bench -p pmxcfs-ipc -- --baseline PROGRAM    against our server in another build of this benchmark
//! ```
//!
//! Bars: rate at least 0.95 of libqb's with one client and 1.0 with eight, 99th percentile at most 1.1 and 1.0 times
//! libqb's. The last rows are about our server alone: small requests beside a client that keeps asking for 5 ms of work,
//! with a 99th percentile of at most 500 us; requests and connections beside four strangers who keep connecting.
#![allow(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    dead_code,
    unreachable_pub,
    reason = "a benchmark"
)]

mod histogram;
#[path = "../../tests/support/qb.rs"]
mod qb;
mod qb_server;
#[path = "../../tests/support/runtime.rs"]
mod runtime;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_ipc::{
    Access, Answer, Handler, PeerCredentials, Request, Server, ServerConfig, Transport,
};

use histogram::Histogram;
use qb::Client;
use runtime::Runtime;

/// Operation that answers with as many bytes as the body, a u32, says.
const PATTERN: i32 = 2;
/// User that may not connect.
const STRANGER: u32 = 1000;
/// Operation that answers after as many microseconds of work as the body, a u32, says.
const WORK: i32 = 3;
/// Largest answer body.
const LARGEST: usize = 1024 * 1024;
/// Clients that only connect and disconnect.
const CONNECT: usize = usize::MAX;

struct Echo(Bytes);

impl Handler for Echo {
    fn authorize(&self, peer: &PeerCredentials) -> Option<Access> {
        (peer.uid != STRANGER).then_some(Access::ReadWrite)
    }

    fn is_long(&self, request: &Request<'_>) -> bool {
        request.id == WORK
    }

    fn handle(&self, request: &Request<'_>) -> Answer {
        let number = u32::from_le_bytes(request.body.try_into().expect("a number"));
        if request.id == WORK {
            let end = Instant::now() + Duration::from_micros(number.into());
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            return Ok(Bytes::new());
        }
        assert_eq!(request.id, PATTERN);
        Ok(self.0.slice(..number as usize))
    }
}

fn run_our_server(service: &str, transport: Transport) {
    let config = ServerConfig {
        service: service.to_owned(),
        transport,
        ..ServerConfig::default()
    };
    let handler = Arc::new(Echo(vec![b'x'; LARGEST].into()));
    let runtime = Runtime::start();
    let _server = Server::start(config, handler, runtime.handle()).expect("nobody has the name");
    println!("ready");
    wait_for_line();
}

/// Keeps asking for work until standard input ends.
fn run_worker(service: &str, microseconds: u32) {
    let mut client = Client::connect(service).expect("it listens");
    let body = microseconds.to_le_bytes();
    println!("ready");
    let waiting = std::thread::spawn(wait_for_line);
    while !waiting.is_finished() {
        client.call(WORK, &body).expect("an answer");
    }
}

/// Connects as a user that may not, as fast as it can, until standard input ends.
fn run_stranger(service: &str) {
    nix::unistd::setuid(STRANGER.into()).expect("root");
    println!("ready");
    let waiting = std::thread::spawn(wait_for_line);
    while !waiting.is_finished() {
        let error = Client::connect(service).map(drop).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}

fn run_client(service: &str, size: usize, duration: Duration) {
    let mut client = (size != CONNECT).then(|| Client::connect(service).expect("it listens"));
    // Twice around the ring, so that every page has been touched.
    if let Some(client) = &mut client {
        for _ in 0..(2 * LARGEST / size).clamp(10, 2000) {
            client
                .call(PATTERN, &(size as u32).to_le_bytes())
                .expect("an answer");
        }
    }
    println!("ready");
    wait_for_line();
    let mut histogram = Histogram::default();
    let end = Instant::now() + duration;
    let mut measure = |f: &mut dyn FnMut()| {
        let mut start = Instant::now();
        while start < end {
            f();
            let now = Instant::now();
            histogram.record((now - start).as_nanos() as u64);
            start = now;
        }
    };
    match client {
        Some(mut client) => measure(&mut || {
            let reply = client.call(PATTERN, &(size as u32).to_le_bytes());
            assert_eq!(reply.expect("an answer").body.len(), size);
        }),
        None => measure(&mut || drop(Client::connect(service).expect("it listens"))),
    }
    println!("{}", histogram.render());
}

fn wait_for_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a pipe");
}

struct Process {
    child: Child,
    /// Our roles end when it is closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        Self::start_program(&std::env::current_exe().expect("a path"), arguments)
    }

    fn start_program(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg("--role")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts");
        let mut process = Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        };
        assert_eq!(process.line().trim_end(), "ready");
        process
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        self.child.wait().expect("it is ours");
    }
}

/// What one round of one server gave.
struct Round {
    per_second: f64,
    p50: f64,
    p99: f64,
}

fn measure(service: &str, size: usize, clients: usize, duration: Duration) -> Round {
    let (size, milliseconds) = (size.to_string(), duration.as_millis().to_string());
    let mut clients: Vec<_> = (0..clients)
        .map(|_| Process::start(&["client", service, &size, &milliseconds]))
        .collect();
    for client in &mut clients {
        let input = client.input.as_mut().expect("not closed");
        input.write_all(b"go\n").expect("it reads");
    }
    let mut histogram = Histogram::default();
    for client in &mut clients {
        histogram.add(&client.line());
    }
    Round {
        per_second: histogram.count() as f64 / duration.as_secs_f64(),
        p50: histogram.quantile(0.5) as f64 / 1000.0,
        p99: histogram.quantile(0.99) as f64 / 1000.0,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Small requests while another client keeps asking for 5 ms of work.
fn beside_work(service: &str, options: &Options) {
    let _worker = Process::start(&["worker", service, "5000"]);
    let rounds: Vec<_> = (0..options.rounds)
        .map(|_| measure(service, 100, 1, options.duration))
        .collect();
    let of = |f: fn(&Round) -> f64| median(rounds.iter().map(f));
    let p99 = of(|round| round.p99);
    println!(
        "100B beside 5 ms of work: {:.0}/s, p50 {:.1} us, p99 {p99:.1} us{}",
        of(|round| round.per_second),
        of(|round| round.p50),
        if p99 <= 500.0 {
            ""
        } else {
            "  <-- below the bar"
        }
    );
}

/// Established and new clients while four strangers connect as fast as they can.
fn beside_flood(service: &str, options: &Options) {
    for (label, size) in [("100B", 100), ("connect", CONNECT)] {
        let run = || measure(service, size, 1, options.duration);
        let rounds: Vec<(Round, Round)> = (0..options.rounds)
            .map(|_| {
                let calm = run();
                let _strangers: Vec<_> = (0..4)
                    .map(|_| Process::start(&["stranger", service]))
                    .collect();
                (calm, run())
            })
            .collect();
        let of = |f: fn(&Round) -> f64| {
            let calm = median(rounds.iter().map(|(calm, _)| f(calm)));
            (calm, median(rounds.iter().map(|(_, flooded)| f(flooded))))
        };
        let ((p50, p50_flooded), (p99, p99_flooded)) = (of(|it| it.p50), of(|it| it.p99));
        println!(
            "{label} beside a flood of strangers: p50 {p50:.1} -> {p50_flooded:.1} us, \
             p99 {p99:.1} -> {p99_flooded:.1} us"
        );
    }
}

fn compare(label: &str, services: [&str; 2], size: usize, clients: usize, options: &Options) {
    let [libqb, ours] = services;
    let pairs: Vec<(Round, Round)> = (0..options.rounds)
        .map(|round| {
            let run = |service| measure(service, size, clients, options.duration);
            if round % 2 == 0 {
                let first = run(libqb);
                (first, run(ours))
            } else {
                let first = run(ours);
                (run(libqb), first)
            }
        })
        .collect();
    let of = |f: fn(&Round) -> f64| {
        [
            median(pairs.iter().map(|(libqb, _)| f(libqb))),
            median(pairs.iter().map(|(_, ours)| f(ours))),
            median(pairs.iter().map(|(libqb, ours)| f(ours) / f(libqb))),
        ]
    };
    let [rate_qb, rate, rate_ratio] = of(|round| round.per_second);
    let [p50_qb, p50, p50_ratio] = of(|round| round.p50);
    let [p99_qb, p99, p99_ratio] = of(|round| round.p99);
    let (least_rate, most_p99) = if clients == 1 {
        (0.95, 1.1)
    } else {
        (1.0, 1.0)
    };
    let verdict = if rate_ratio >= least_rate && p99_ratio <= most_p99 {
        ""
    } else {
        "  <-- below the bar"
    };
    println!(
        "{label:<18} {rate_qb:>9.0} {rate:>9.0} {rate_ratio:>5.2} | {p50_qb:>8.1} {p50:>8.1} \
         {p50_ratio:>5.2} | {p99_qb:>8.1} {p99:>8.1} {p99_ratio:>5.2}{verdict}"
    );
}

struct Options {
    rounds: usize,
    duration: Duration,
    transport: &'static str,
    /// Another build of this benchmark, whose server of ours is compared with instead of libqb's.
    baseline: Option<PathBuf>,
    filters: Vec<String>,
}

fn parse_options() -> Options {
    let mut options = Options {
        rounds: 15,
        duration: Duration::from_millis(300),
        transport: "shm",
        baseline: None,
        filters: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option needs a value");
        match argument.as_str() {
            "--rounds" => options.rounds = value().parse().expect("a count"),
            "--ms" => options.duration = Duration::from_millis(value().parse().expect("a time")),
            "--baseline" => options.baseline = Some(value().into()),
            "--socket" => options.transport = "socket",
            "--bench" => {}
            _ => options.filters.push(argument),
        }
    }
    options
}

fn run_role(arguments: &[String]) {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["ours", service, "shm"] => run_our_server(service, Transport::Shm),
        ["ours", service, "socket"] => run_our_server(service, Transport::Socket),
        ["stranger", service] => run_stranger(service),
        ["worker", service, microseconds] => {
            run_worker(service, microseconds.parse().expect("a time"));
        }
        ["libqb", service, "shm"] => qb_server::run(service, 1),
        ["libqb", service, "socket"] => qb_server::run(service, 0),
        ["client", service, size, milliseconds] => run_client(
            service,
            size.parse().expect("a size"),
            Duration::from_millis(milliseconds.parse().expect("a time")),
        ),
        other => panic!("role {other:?}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rest @ ..] = arguments.as_slice()
        && flag == "--role"
    {
        return run_role(rest);
    }
    let options = parse_options();
    let pid = std::process::id();
    let names = [format!("bench-qb-{pid}"), format!("bench-{pid}")];
    let services = [names[0].as_str(), names[1].as_str()];
    let _baseline = match &options.baseline {
        None => Process::start(&["libqb", services[0], options.transport]),
        Some(program) => Process::start_program(program, &["ours", services[0], options.transport]),
    };
    let _ours = Process::start(&["ours", services[1], options.transport]);
    println!(
        "{:<18} {:>9} {:>9} {:>5} | {:>8} {:>8} {:>5} | {:>8} {:>8} {:>5}",
        "answer, clients",
        "libqb/s",
        "ours/s",
        "ratio",
        "p50 us",
        "ours",
        "ratio",
        "p99 us",
        "ours",
        "ratio"
    );
    let sizes = [
        ("100B", 100),
        ("4KiB", 4096),
        ("64KiB", 65536),
        ("900KiB", 900 * 1024),
        ("connect", CONNECT),
    ];
    let is_wanted = |name: &str| {
        options.filters.is_empty() || options.filters.iter().any(|it| name.contains(it.as_str()))
    };
    for (name, size) in sizes {
        for clients in [1, 8] {
            let label = format!("{name}, {clients}");
            if is_wanted(&label) {
                compare(&label, services, size, clients, &options);
            }
        }
    }
    if is_wanted("work") {
        beside_work(services[1], &options);
    }
    if is_wanted("flood") {
        beside_flood(services[1], &options);
    }
}
