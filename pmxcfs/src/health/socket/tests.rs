use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Runtime;

use super::*;

/// A busy machine may take its time.
const WAIT: Duration = Duration::from_secs(30);

/// Longer than what a socket takes without a reader.
const LONG: usize = 8 << 20;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("temporary directory"),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("ctl.sock")
    }

    fn start(&self) -> Served {
        self.start_with(WAIT)
    }

    /// Answers with the request, or with very much.
    fn start_with(&self, patience: Duration) -> Served {
        let answer = |request: &[u8]| match request {
            b"long" => Reply::Text(vec![b'x'; LONG]),
            _ => Reply::Text(request.to_vec()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let mut socket = ControlSocket::bind(&self.path()).expect("a socket");
        socket.patience = patience;
        drop(entered);
        runtime.spawn(socket.serve(answer));
        Served(Some(runtime))
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).expect("it listens");
        stream
            .set_read_timeout(Some(WAIT))
            .expect("a socket has a timeout");
        stream
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).expect("it reads");
        rest(&mut stream)
    }
}

/// A socket on a runtime of its own, which ends when this is dropped.
struct Served(Option<Runtime>);

impl Drop for Served {
    fn drop(&mut self) {
        let runtime = self.0.take().expect("taken here only");
        runtime.shutdown_timeout(WAIT);
    }
}

fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers in time");
    answer
}

#[test]
fn a_line_is_answered_and_the_connection_closed() {
    let place = Place::new();
    let _socket = place.start();
    assert_eq!(place.ask(b"hello\n"), b"hello");
    assert_eq!(place.ask(b"\n"), b"");
    assert_eq!(place.ask(b"one\ntwo\n"), b"one");
    assert_eq!(place.ask(b"long\n").len(), LONG);
}

#[test]
fn a_request_may_come_in_pieces() {
    let place = Place::new();
    let _socket = place.start();
    let mut stream = place.connect();
    for byte in b"pieces\n" {
        stream.write_all(&[*byte]).expect("it reads");
    }
    assert_eq!(rest(&mut stream), b"pieces");
}

#[test]
fn only_root_reaches_it_and_it_goes_away_with_its_owner() {
    let place = Place::new();
    let socket = place.start();
    let metadata = fs::symlink_metadata(place.path()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let names = || {
        fs::read_dir(place.directory.path())
            .expect("listable")
            .count()
    };
    assert_eq!(names(), 1, "nothing else is left there");
    drop(socket);
    assert_eq!(names(), 0);
}

#[test]
fn what_a_killed_daemon_left_is_replaced_and_what_came_later_is_kept() {
    let place = Place::new();
    drop(UnixListener::bind(place.path()).expect("a socket"));
    fs::write(place.directory.path().join("ctl.sock.new"), "torn").expect("writable");
    let first = place.start();
    assert_eq!(place.ask(b"first\n"), b"first");
    let second = place.start();
    drop(first);
    assert_eq!(place.ask(b"second\n"), b"second");
    drop(second);
    assert!(!place.path().exists());
}

#[test]
fn a_socket_that_vanishes_is_made_anew() {
    let place = Place::new();
    let _socket = place.start();
    fs::remove_file(place.path()).expect("removable");
    let deadline = std::time::Instant::now() + WAIT;
    while !place.path().exists() {
        assert!(std::time::Instant::now() < deadline, "it comes back");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(place.ask(b"hello\n"), b"hello");
}

#[test]
fn requests_that_are_none_end_the_connection() {
    let place = Place::new();
    let _socket = place.start();
    let mut silent = place.connect();
    silent.shutdown(Shutdown::Write).expect("an end");
    assert_eq!(rest(&mut silent), b"");
    let mut endless = place.connect();
    // The connection may be gone before all is written.
    let _written = endless.write_all(&[b'x'; 100_000]);
    let mut answer = Vec::new();
    let _reset = endless.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    assert_eq!(place.ask(b"still here\n"), b"still here");
}

#[test]
fn clients_that_do_not_read_or_ask_keep_nobody_out() {
    let place = Place::new();
    let _socket = place.start();
    let mut bad = Vec::new();
    for number in 0..2 * CLIENT_COUNT {
        let mut stream = place.connect();
        if number % 2 == 0 {
            stream.write_all(b"long\n").expect("it reads");
        }
        bad.push(stream);
        assert_eq!(place.ask(b"good\n"), b"good");
    }
}

#[test]
fn a_client_that_takes_too_long_loses_its_place() {
    let place = Place::new();
    let _socket = place.start_with(Duration::from_millis(50));
    let mut silent = place.connect();
    assert_eq!(rest(&mut silent), b"", "nothing was asked");
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let place = Arc::new(Place::new());
    let _socket = place.start();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let (place, answered) = (Arc::clone(&place), Arc::clone(&answered));
            std::thread::spawn(move || {
                for _ in 0..20 {
                    assert_eq!(place.ask(b"hello\n"), b"hello");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("all are answered");
    }
    assert_eq!(answered.load(Ordering::Relaxed), 640);
}

#[test]
fn clients_do_not_hold_up_the_end() {
    let place = Place::new();
    let socket = place.start();
    let mut reading = place.connect();
    reading.write_all(b"long\n").expect("it reads");
    let mut silent = place.connect();
    assert_eq!(place.ask(b"hello\n"), b"hello");
    drop(socket);
    assert_eq!(rest(&mut silent), b"");
    assert!(UnixStream::connect(place.path()).is_err());
}
