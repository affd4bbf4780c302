//! The server against bytes recorded from libqb: every recording of a kind is replayed and compared.
//!
//! Recordings are read from `tests/vectors/ipc`, or from `ipc` below the directory that `PMXCFS_VECTORS` names.
//! Process ids, directory names and connection numbers differ in every run and are taken from the recording.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::socket::SockaddrLike;
use parking_lot::Mutex;
use pmxcfs_ipc::wire::address::abstract_address;
use pmxcfs_ipc::wire::request;
use pmxcfs_ipc::wire::ring_header;
use pmxcfs_ipc::wire::setup::{ConnectResponse, decode_request};
use pmxcfs_ipc::{
    Access, Answer, Handler, PeerCredentials, Request, Server, ServerConfig, Transport,
};

use support::raw::{
    self, DATA_PATH, READ_POSITION, RingFiles, SEMAPHORE, ShmClient, SocketClient, WAITERS,
    WORD_SIZE, WRITE_POSITION, Welcome,
};
use support::runtime::Runtime;
use support::service::{eventually, unique_name};

fn vectors() -> PathBuf {
    match std::env::var_os("PMXCFS_VECTORS") {
        Some(directory) => PathBuf::from(directory).join("ipc"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ipc"),
    }
}

/// All recorded files whose name fits, at any depth. There must be some.
fn recordings(fits: impl Fn(&str) -> bool) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![vectors()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("recordings") {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if fits(entry.file_name().to_str().unwrap()) {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    assert!(!found.is_empty(), "no such recordings");
    found
}

/// Directories that hold a recorded session of a transport.
fn sessions(marker: &str) -> Vec<PathBuf> {
    let markers = recordings(|name| name == marker);
    markers
        .into_iter()
        .map(|(path, _)| path.parent().unwrap().to_owned())
        .collect()
}

fn read(directory: &Path, file: &str) -> Vec<u8> {
    let path = directory.join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

#[test]
fn socket_addresses_are_padded_as_recorded() {
    for (path, recorded) in recordings(|name| name.starts_with("sockaddr-")) {
        let padded = &recorded[3..];
        let end = padded.iter().position(|byte| *byte == 0).unwrap();
        let name = str::from_utf8(&padded[..end]).unwrap();
        let address = abstract_address(name).unwrap();
        assert_eq!(address.len() as usize, recorded.len(), "{}", path.display());
        let mut encoded = vec![1, 0, 0];
        encoded.extend(address.as_abstract().unwrap());
        assert_eq!(encoded, recorded, "{}", path.display());
    }
}

#[test]
fn connection_requests_are_understood() {
    for (path, recorded) in recordings(|name| name.starts_with("connect-request")) {
        let wanted = decode_request(recorded[..].try_into().unwrap());
        assert_eq!(wanted, Ok(word(&recorded, 16)), "{}", path.display());
        assert_eq!(
            raw::connect_request(word(&recorded, 16))[..],
            recorded,
            "{}",
            path.display()
        );
    }
}

#[test]
fn connection_responses_have_the_recorded_bytes() {
    let fits = |name: &str| name.contains("connect-response") || name.contains("connect-refused");
    for (path, recorded) in recordings(fits) {
        let welcome = Welcome::parse(&recorded);
        let response = if welcome.error == 0 {
            ConnectResponse::Accepted {
                transport: match welcome.transport {
                    0 => Transport::Socket,
                    _ => Transport::Shm,
                },
                max_message_size: welcome.max_message_size,
                connection: welcome.connection,
                names: welcome.names,
            }
        } else {
            ConnectResponse::Refused {
                error: welcome.error,
            }
        };
        assert!(response.encode()[..] == recorded, "{}", path.display());
    }
}

/// Answers the recorded session's requests in order and keeps what it was asked.
struct Recorded {
    answers: Mutex<Vec<Bytes>>,
    asked: Mutex<Vec<(i32, Vec<u8>)>>,
}

impl Recorded {
    fn new(answers: &[&[u8]]) -> Arc<Self> {
        let answers = answers.iter().rev().map(|it| Bytes::copy_from_slice(it));
        Arc::new(Self {
            answers: Mutex::new(answers.collect()),
            asked: Mutex::default(),
        })
    }
}

impl Handler for Recorded {
    fn authorize(&self, _peer: &PeerCredentials) -> Option<Access> {
        Some(Access::ReadWrite)
    }

    fn handle(&self, request: &Request<'_>) -> Answer {
        self.asked.lock().push((request.id, request.body.to_vec()));
        Ok(self.answers.lock().pop().expect("no more requests"))
    }
}

fn start(transport: Transport, handler: Arc<Recorded>) -> ((Server, Runtime), String) {
    let service = unique_name();
    let config = ServerConfig {
        service: service.clone(),
        transport,
        socket_directory: None,
        ..ServerConfig::default()
    };
    let runtime = Runtime::start();
    let server = Server::start(config, handler, runtime.handle()).unwrap();
    ((server, runtime), service)
}

/// The part of a header file behind the paths, and the numbers before them.
fn numbers(header: &[u8]) -> (&[u8], &[u8]) {
    let behind_paths = usize::try_from(raw::REF_COUNT).unwrap();
    (&header[..12], &header[behind_paths..])
}

const RINGS: [&str; 3] = ["request", "response", "event"];

#[test]
fn a_shared_memory_session_leaves_the_recorded_bytes() {
    for session in sessions("wakeup-byte.bin") {
        replay_shm(&session);
    }
}

fn replay_shm(session: &Path) {
    let pending = read(session, "3-request-pending/request-data.bin");
    let answered = read(session, "4-response-pending/response-data.bin");
    let answer = &answered[8..8 + word(&answered, 0) as usize];
    let handler = Recorded::new(&[&answer[24..], b"ABC", b"ABC"]);
    let (server, service) = start(Transport::Shm, Arc::clone(&handler));
    let request = read(session, "connect-request.bin");
    let mut stream = raw::connect_service(&service).unwrap();
    let welcome = raw::handshake(&mut stream, word(&request, 16)).unwrap();
    let recorded = Welcome::parse(&read(session, "connect-response.bin"));
    assert_eq!(
        (welcome.error, welcome.transport, welcome.max_message_size),
        (0, 1, recorded.max_message_size)
    );
    check_created(session, &recorded, &welcome, &service);
    check_listing(session, &welcome);

    let mut client = ShmClient::open(stream, welcome);
    replay_first_request(session, &mut client, &pending);
    assert_eq!(
        client.receive(),
        answer,
        "header and body of the first answer"
    );
    client.response.set(SEMAPHORE, 0);
    assert_rings(session, "5-idle", &client);
    replay_wrapped_request(session, &mut client, &handler);
    let asked = handler.asked.lock();
    assert_eq!(asked[0], (word(&pending, 8).cast_signed(), Vec::new()));
    assert_eq!(asked[1], asked[2], "the same long request, wrapped");
    drop(asked);
    let directory = Path::new(&client.welcome.names[0])
        .parent()
        .unwrap()
        .to_owned();
    drop(client);
    eventually("nothing is left", || !directory.exists());
    drop(server);
}

/// The files before the client opened them. Only a leftover of libqb's self-test in word 0 is not there.
fn check_created(session: &Path, recorded: &Welcome, welcome: &Welcome, service: &str) {
    for (index, ring) in RINGS.iter().enumerate() {
        let file = read(session, &format!("1-created/{ring}-header.bin"));
        let encoded = ring_header::encode(&recorded.names[index], word(&file, 8));
        assert!(encoded[..] == file, "{ring} header");
        let name = &welcome.names[index];
        assert!(name.ends_with(&format!("/qb-{ring}-{service}")), "{name}");
        let ours = fs::read(format!("{name}-header")).unwrap();
        assert!(ours[..] == ring_header::encode(name, word(&file, 8))[..]);
        let mut data = read(session, &format!("1-created/{ring}-data.bin"));
        data[..4].fill(0);
        assert!(fs::read(format!("{name}-data")).unwrap() == data, "{ring}");
    }
}

/// Kinds, modes and sizes as listed; header files are listed after clients have cut two of them.
fn check_listing(session: &Path, welcome: &Welcome) {
    let listing = String::from_utf8(read(session, "listing-opened.txt")).unwrap();
    let directory = Path::new(&welcome.names[0]).parent().unwrap();
    let mut checked_count = 0;
    for line in listing.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [mode, uid, gid, size, path] = fields[..] else {
            continue;
        };
        assert_eq!(uid, gid, "the client's in this recording");
        let ring = RINGS
            .iter()
            .position(|ring| path.contains(&format!("qb-{ring}-")));
        let ours = match ring {
            None => directory.to_owned(),
            Some(ring) => {
                let suffix = path.rsplit_once('-').unwrap().1;
                PathBuf::from(format!("{}-{suffix}", welcome.names[ring]))
            }
        };
        let metadata = fs::metadata(&ours).unwrap();
        let expected_mode = match mode {
            "drwxrwx---" => 0o040_770,
            "-rw-------" => 0o100_600,
            other => panic!("mode {other}"),
        };
        assert_eq!(metadata.mode(), expected_mode, "{}", ours.display());
        if path.ends_with("-data") {
            assert_eq!(metadata.size().to_string(), size, "{}", ours.display());
        }
        checked_count += 1;
    }
    assert_eq!(checked_count, 7, "directory and six files");
}

/// Writes the recorded first request as the client did; compares what the server makes of it.
fn replay_first_request(session: &Path, client: &mut ShmClient, pending: &[u8]) {
    let header = read(session, "3-request-pending/request-header.bin");
    client.request.data.write_all_at(pending, 0).unwrap();
    for offset in [WRITE_POSITION, SEMAPHORE] {
        client
            .request
            .set(offset, word(&header, usize::try_from(offset).unwrap()));
    }
    let sleeping = read(session, "3-request-pending/response-header.bin");
    client
        .response
        .set(WAITERS, word(&sleeping, usize::try_from(WAITERS).unwrap()));
    let bell = read(session, "wakeup-byte.bin");
    std::io::Write::write_all(&mut client.stream, &bell).unwrap();
    eventually("an answer", || client.response.get(SEMAPHORE) > 0);
    assert_rings(session, "4-response-pending", client);
    // The client wakes up.
    client.response.set(WAITERS, 0);
}

/// Compares everything that the recording has of a state, except paths.
fn assert_rings(session: &Path, state: &str, client: &ShmClient) {
    let rings: [(&str, &RingFiles); 2] =
        [("request", &client.request), ("response", &client.response)];
    for (name, ring) in rings {
        let recorded = read(session, &format!("{state}/{name}-header.bin"));
        let mut ours = vec![0; recorded.len()];
        ring.header.read_exact_at(&mut ours, 0).unwrap();
        assert_eq!(numbers(&ours), numbers(&recorded), "{state} {name}");
        let recorded = read(session, &format!("{state}/{name}-data.bin"));
        let ours = ring.read_at(0, recorded.len());
        assert!(ours == recorded, "{state} {name} data");
    }
}

/// The long request, once at the place where it was first sent and once wrapped, as recorded.
fn replay_wrapped_request(session: &Path, client: &mut ShmClient, handler: &Recorded) {
    let header = read(session, "6-wrapped-request-pending/request-header.bin");
    let data = read(session, "6-wrapped-request-pending/request-data.bin");
    let start = word(&header, usize::try_from(READ_POSITION).unwrap());
    let words = word(&header, usize::try_from(WORD_SIZE).unwrap());
    assert_eq!(words, client.request.words());
    let recorded_word = |index: u32| word(&data, 4 * (index % words) as usize);
    let length = recorded_word(start);
    let chunk: Vec<u8> = (start..start + 2 + length.div_ceil(4))
        .flat_map(|index| recorded_word(index).to_le_bytes())
        .collect();
    let message = &chunk[8..8 + length as usize];
    assert!(request::decode(message).is_ok());

    let first = client.request.get(READ_POSITION);
    assert_eq!((first + 2 + length.div_ceil(4)) % words, start);
    for position in [first, start] {
        client.request.write_at(position, &chunk);
        client.request.post();
        client.ring_bell();
        let answer = client.receive();
        assert_eq!(&answer[24..], b"ABC");
    }
    let end = word(&header, usize::try_from(WRITE_POSITION).unwrap());
    assert_eq!(client.request.get(READ_POSITION), end);
    assert_eq!(handler.asked.lock()[1].1, message[16..]);
    let path = format!("{}-data\0", client.welcome.names[0]);
    let mut in_header = vec![0; path.len()];
    let paths = &client.request.header;
    paths.read_exact_at(&mut in_header, DATA_PATH).unwrap();
    assert_eq!(in_header, path.as_bytes());
}

#[test]
fn a_datagram_session_has_the_recorded_messages() {
    for session in sessions("request-datagram.bin") {
        let expected = read(&session, "response-datagram.bin");
        let handler = Recorded::new(&[&expected[24..]]);
        let (_server, service) = start(Transport::Socket, handler);
        let request = read(&session, "connect-request.bin");
        let client = SocketClient::connect(&service, word(&request, 16));
        let recorded = Welcome::parse(&read(&session, "connect-response.bin"));
        assert_eq!(client.welcome.max_message_size, recorded.max_message_size);
        let [control, base, nothing] = &client.welcome.names;
        assert!(control.ends_with(&format!("/qb-control-{service}")));
        assert!(base.ends_with(&format!("/qb-{service}")) && nothing.is_empty());
        let created = read(&session, "control-1-created.bin");
        assert_eq!(fs::read(control).unwrap(), created);
        assert_eq!(fs::metadata(control).unwrap().mode(), 0o100_600);
        client
            .send(&read(&session, "request-datagram.bin"))
            .unwrap();
        assert_eq!(client.receive().unwrap(), expected);
        let control = PathBuf::from(control);
        drop(client);
        eventually("nothing is left", || !control.parent().unwrap().exists());
    }
}
