//! The IPC server's loop: clients that connect, send bytes and descriptors, write into their rings, truncate them and hang up, in
//! any order. A client that keeps to the rules is served beside them, and nothing of a client is left when it has gone.
#![no_main]

#[allow(dead_code, reason = "its home is a test")]
#[path = "../../pmxcfs-ipc/tests/support/raw.rs"]
mod raw;
#[path = "../../pmxcfs-ipc/tests/support/runtime.rs"]
mod runtime;

/// Stands for the bindings of libqb that the client of `raw` uses, so that the target needs no libqb.
mod qb {
    pub fn request_header(id: i32, body_size: usize) -> [u8; 16] {
        let mut header = [0; 16];
        let size = i32::try_from(16 + body_size).expect("small");
        header[..4].copy_from_slice(&id.to_le_bytes());
        header[8..12].copy_from_slice(&size.to_le_bytes());
        header
    }
}

use std::fs;
use std::io::{IoSlice, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use bytes::Bytes;
use pmxcfs_ipc::{Access, Answer, Handler, PeerCredentials, Request, Server, ServerConfig};
use raw::{
    COMPLETE, PATIENCE, READ_POSITION, REF_COUNT, SEMAPHORE, ShmClient, WAITERS, WRITE_POSITION,
};
use runtime::Runtime;
use tempfile::TempDir;

/// Answers with the body of the request.
struct Echo;

impl Handler for Echo {
    fn authorize(&self, _peer: &PeerCredentials) -> Option<Access> {
        Some(Access::ReadWrite)
    }

    fn is_long(&self, request: &Request<'_>) -> bool {
        request.id % 2 == 0
    }

    fn handle(&self, request: &Request<'_>) -> Answer {
        Ok(Bytes::from(request.body.to_vec()))
    }
}

/// One server for all inputs.
struct Service {
    name: String,
    files: TempDir,
}

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let name = format!("fuzz-{}", std::process::id());
    let files = TempDir::new_in("/dev/shm").expect("space in memory");
    let config = ServerConfig {
        service: name.clone(),
        shm_directory: files.path().to_owned(),
        ..ServerConfig::default()
    };
    let runtime = Runtime::start();
    let server = Server::start(config, Arc::new(Echo), runtime.handle()).expect("a new name");
    // Both serve until the process ends.
    std::mem::forget((server, runtime));
    Service { name, files }
});

enum Client {
    /// Before the handshake or in the middle of it.
    Stream(UnixStream),
    /// After it.
    Rings(Box<ShmClient>),
}

impl Client {
    fn stream(&self) -> &UnixStream {
        match self {
            Self::Stream(stream) => stream,
            Self::Rings(client) => &client.stream,
        }
    }

    /// Sends what there is room for. The server may have hung up.
    fn send(&self, bytes: &[u8]) {
        let _sent = self.stream().write(bytes);
    }

    /// Sends a byte with the stream's own descriptor.
    fn send_descriptor(&self) {
        let descriptor = [self.stream().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptor)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let bytes = [IoSlice::new(&[16])];
        let _sent = sendmsg::<UnixAddr>(descriptor[0], &bytes, &rights, flags, None);
    }
}

/// Offsets in a ring's header that a client may write at any time.
const HEADER_WORDS: [u64; 5] = [WRITE_POSITION, READ_POSITION, REF_COUNT, SEMAPHORE, WAITERS];

fn connect() -> UnixStream {
    let stream = raw::connect_service(&SERVICE.name).expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

fn shm_client() -> ShmClient {
    ShmClient::connect(&SERVICE.name, 0)
}

/// Six bytes each: what to do, which client does it, and a number.
fn step(clients: &mut [Option<Client>; 3], &[what, who, ref number @ ..]: &[u8; 6]) {
    let slot = &mut clients[usize::from(who) % 3];
    let value = u32::from_le_bytes(*number);
    match (what % 12, &mut *slot) {
        (0, slot) => *slot = None,
        (1, slot) => *slot = Some(Client::Stream(connect())),
        (2, slot) => {
            let client = shm_client();
            client.stream.set_nonblocking(true).expect("a socket");
            *slot = Some(Client::Rings(Box::new(client)));
        }
        (_, None) => *slot = Some(Client::Stream(connect())),
        (3, Some(client)) => client.send(number),
        // The beginning of a connection request.
        (4, Some(client)) => client.send(&(-1i64).to_le_bytes()),
        (5, Some(client)) => client.send_descriptor(),
        (_, Some(Client::Stream(_))) => {}
        (6, Some(Client::Rings(client))) => {
            let body = vec![who; value as usize % 3000];
            client.post_message(
                &[
                    &qb::request_header(value.cast_signed() >> 16, body.len())[..],
                    &body,
                ]
                .concat(),
            );
            let _announced = client.stream.write(&[16]);
        }
        (7, Some(Client::Rings(client))) => client.put_chunk(value, COMPLETE, number),
        (8, Some(Client::Rings(client))) => client.request.post(),
        (9, Some(Client::Rings(client))) => {
            let offset = 4 * u64::from(value % client.request.words());
            client.request.write_raw(offset, value.rotate_left(16));
        }
        (10, Some(Client::Rings(client))) => {
            let ring = [&client.request, &client.response][usize::from(who) / 3 % 2];
            ring.set(HEADER_WORDS[usize::from(number[0]) % 5], value >> 8);
        }
        (_, Some(Client::Rings(client))) => {
            let ring = [&client.request, &client.response][usize::from(who) / 3 % 2];
            let file = [&ring.header, &ring.data][usize::from(number[0]) % 2];
            file.set_len(u64::from(value >> 20)).expect("its owner");
            let _announced = client.stream.write(&[16]);
            *slot = None;
        }
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut clients = [None, None, None];
    for bytes in bytes.as_chunks().0 {
        step(&mut clients, bytes);
    }
    let mut honest = shm_client();
    honest.send(1, b"served");
    assert_eq!(&honest.receive()[24..], b"served");
    drop((clients, honest));
    let deadline = Instant::now() + PATIENCE;
    while fs::read_dir(SERVICE.files.path())
        .expect("readable")
        .next()
        .is_some()
    {
        assert!(Instant::now() < deadline, "files outlive their client");
        thread::yield_now();
    }
});
