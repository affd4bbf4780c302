//! A client that speaks the wire protocol by hand and can get everything wrong.
//!
//! Shared files are read and written with system calls, so a mistake here is an error and not a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recv, send, setsockopt,
    socket, sockopt,
};
use pmxcfs_ipc::wire::address::abstract_address;
use pmxcfs_ipc::wire::setup::CONNECT_RESPONSE_SIZE;

use super::qb::request_header;

/// Time after which something that should happen has not.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Offsets in a ring's header file.
pub const WRITE_POSITION: u64 = 0;
/// See [`WRITE_POSITION`].
pub const READ_POSITION: u64 = 4;
/// See [`WRITE_POSITION`].
pub const WORD_SIZE: u64 = 8;
/// See [`WRITE_POSITION`].
pub const HEADER_PATH: u64 = 12;
/// See [`WRITE_POSITION`].
pub const DATA_PATH: u64 = 4108;
/// See [`WRITE_POSITION`].
pub const REF_COUNT: u64 = 8204;
/// See [`WRITE_POSITION`].
pub const SEMAPHORE: u64 = 8208;
/// See [`WRITE_POSITION`].
pub const WAITERS: u64 = 8212;

/// Magic of a complete chunk.
pub const COMPLETE: u32 = 0xA1A1_A1A1;

/// A stream socket connected to an address, blocking with a time limit.
pub fn connect_stream(address: &UnixAddr) -> nix::Result<UnixStream> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(socket.as_raw_fd(), address)?;
    let stream = UnixStream::from(socket);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a valid time");
    Ok(stream)
}

/// A stream socket connected to a service.
pub fn connect_service(service: &str) -> nix::Result<UnixStream> {
    connect_stream(&abstract_address(service).expect("a short name"))
}

/// What the server said to a connection request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// 0 or an error.
    pub error: i32,
    /// 0 SOCKET, 1 SHM.
    pub transport: i32,
    /// Agreed size.
    pub max_message_size: u32,
    /// Opaque number.
    pub connection: u64,
    /// Names of rings, or of control file and sockets.
    pub names: [String; 3],
}

impl Welcome {
    /// Takes a connection response apart; checks what is constant.
    pub fn parse(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), CONNECT_RESPONSE_SIZE);
        let number = |offset: usize| {
            i32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
        };
        assert_eq!((number(0), number(8)), (-1, 12328));
        let name = |offset: usize| {
            let field = &bytes[offset..offset + 4096];
            let end = field.iter().position(|byte| *byte == 0).expect("a NUL");
            String::from_utf8(field[..end].to_vec()).expect("names are ASCII")
        };
        Self {
            error: number(16),
            transport: number(24),
            max_message_size: number(28).cast_unsigned(),
            connection: u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes")),
            names: [name(40), name(4136), name(8232)],
        }
    }
}

/// The bytes of a connection request.
pub fn connect_request(wanted: u32) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&(-1i32).to_le_bytes());
    bytes[8..12].copy_from_slice(&24i32.to_le_bytes());
    bytes[16..20].copy_from_slice(&wanted.to_le_bytes());
    bytes
}

/// Sends a connection request and reads the answer.
pub fn handshake(stream: &mut UnixStream, wanted: u32) -> io::Result<Welcome> {
    stream.write_all(&connect_request(wanted))?;
    let mut response = vec![0; CONNECT_RESPONSE_SIZE];
    stream.read_exact(&mut response)?;
    Ok(Welcome::parse(&response))
}

/// The files of one ring.
pub struct RingFiles {
    /// Positions and semaphore.
    pub header: File,
    /// Chunks.
    pub data: File,
}

impl RingFiles {
    /// Opens a ring and sizes its header as a client does.
    pub fn open(name: &str, header_size: u64) -> io::Result<Self> {
        let open = |suffix| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(format!("{name}{suffix}"))
        };
        let ring = Self {
            header: open("-header")?,
            data: open("-data")?,
        };
        ring.header.set_len(header_size)?;
        ring.set(REF_COUNT, ring.get(REF_COUNT) + 1);
        Ok(ring)
    }

    /// A number in the header.
    pub fn get(&self, offset: u64) -> u32 {
        read_word(&self.header, offset)
    }

    /// Changes a number in the header.
    pub fn set(&self, offset: u64, value: u32) {
        self.header
            .write_all_at(&value.to_le_bytes(), offset)
            .expect("the header is writable");
    }

    /// Adds to the semaphore, not atomically.
    pub fn post(&self) {
        self.set(SEMAPHORE, self.get(SEMAPHORE).wrapping_add(1));
    }

    /// Words in the data file.
    pub fn words(&self) -> u32 {
        self.get(WORD_SIZE)
    }

    /// Changes a word of the data file.
    pub fn write_raw(&self, offset: u64, value: u32) {
        self.data
            .write_all_at(&value.to_le_bytes(), offset)
            .expect("space");
    }

    /// Copies bytes to a word and on, around the end.
    pub fn write_at(&self, word: u32, bytes: &[u8]) {
        let size = 4 * self.words() as usize;
        let start = 4 * (word % self.words()) as usize;
        let (head, tail) = bytes.split_at(bytes.len().min(size - start));
        self.data.write_all_at(head, start as u64).expect("space");
        self.data.write_all_at(tail, 0).expect("space");
    }

    /// Reads bytes from a word on, around the end.
    pub fn read_at(&self, word: u32, size: usize) -> Vec<u8> {
        let ring = 4 * self.words() as usize;
        let start = 4 * (word % self.words()) as usize;
        let mut bytes = vec![0; size];
        let (head, tail) = bytes.split_at_mut(size.min(ring - start));
        self.data.read_exact_at(head, start as u64).expect("data");
        self.data.read_exact_at(tail, 0).expect("data");
        bytes
    }
}

fn read_word(file: &File, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset)
        .expect("inside the file");
    u32::from_le_bytes(bytes)
}

/// A connection with its rings open.
pub struct ShmClient {
    /// Stream socket.
    pub stream: UnixStream,
    /// What the server said.
    pub welcome: Welcome,
    /// Client to server.
    pub request: RingFiles,
    /// Server to client.
    pub response: RingFiles,
    /// Server to client, unasked.
    pub event: RingFiles,
    write: u32,
    read: u32,
}

impl ShmClient {
    /// Connects and opens everything.
    pub fn connect(service: &str, wanted: u32) -> Self {
        let mut stream = connect_service(service).expect("it listens");
        let welcome = handshake(&mut stream, wanted).expect("an answer");
        assert_eq!((welcome.error, welcome.transport), (0, 1));
        Self::open(stream, welcome)
    }

    /// Opens what the server offers.
    pub fn open(stream: UnixStream, welcome: Welcome) -> Self {
        let open = |index: usize, size| {
            RingFiles::open(&welcome.names[index], size).expect("the client may open its rings")
        };
        Self {
            request: open(0, 8252),
            response: open(1, 8248),
            event: open(2, 8248),
            stream,
            welcome,
            write: 0,
            read: 0,
        }
    }

    /// Puts a chunk with any length and magic into the request ring, without telling the server.
    pub fn put_chunk(&mut self, length: u32, magic: u32, message: &[u8]) {
        let chunk = [&length.to_le_bytes(), &magic.to_le_bytes(), message].concat();
        self.request.write_at(self.write, &chunk);
        let words = 2 + u32::try_from(message.len()).expect("small").div_ceil(4);
        self.write = (self.write + words) % self.request.words();
        self.request.set(WRITE_POSITION, self.write);
    }

    /// Puts a well-formed message into the ring and posts it.
    pub fn post_message(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("small");
        self.put_chunk(length, COMPLETE, message);
        self.request.post();
    }

    /// Sends one wake-up byte.
    pub fn ring_bell(&mut self) {
        self.stream.write_all(&[16]).expect("the server is there");
    }

    /// Sends a request.
    pub fn send(&mut self, id: i32, body: &[u8]) {
        self.post_message(&[&request_header(id, body.len())[..], body].concat());
        self.ring_bell();
    }

    /// Waits for the next response and takes it; the whole message. The semaphore is left alone: it cannot be
    /// changed atomically from here, and the server does not mind.
    pub fn receive(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        let chunk = loop {
            let chunk = self.response.read_at(self.read, 8);
            if chunk[4..] == COMPLETE.to_le_bytes() {
                break chunk;
            }
            assert!(Instant::now() < deadline, "no response");
            std::thread::yield_now();
        };
        let length = u32::from_le_bytes(chunk[..4].try_into().expect("four bytes"));
        let message = self.response.read_at(self.read + 2, length as usize);
        self.response
            .write_at(self.read, &[0, 0, 0, 0, 0xD0, 0xD0, 0xD0, 0xD0]);
        self.read = (self.read + 2 + length.div_ceil(4)) % self.response.words();
        self.response.set(READ_POSITION, self.read);
        message
    }

    /// Waits until the server hangs up.
    pub fn expect_hang_up(&mut self) {
        expect_hang_up(&mut self.stream);
    }
}

/// Waits until the server hangs up.
pub fn expect_hang_up(stream: &mut UnixStream) {
    let mut bytes = [0; 64];
    match stream.read(&mut bytes) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("not a hang-up: {other:?}"),
    }
}

/// A connection with its datagram sockets bound.
pub struct SocketClient {
    /// Stream socket.
    pub stream: UnixStream,
    /// What the server said.
    pub welcome: Welcome,
    /// Requests out, responses in.
    pub messages: OwnedFd,
    /// Events in.
    pub events: OwnedFd,
}

impl SocketClient {
    /// Connects as libqb does.
    pub fn connect(service: &str, wanted: u32) -> Self {
        let mut stream = connect_service(service).expect("it listens");
        let welcome = handshake(&mut stream, wanted).expect("an answer");
        assert_eq!((welcome.error, welcome.transport), (0, 0));
        let base = &welcome.names[1];
        Self {
            messages: datagram_pair(&format!("{base}-response"), &format!("{base}-request")),
            events: datagram_pair(&format!("{base}-event"), &format!("{base}-event-tx")),
            stream,
            welcome,
        }
    }

    /// Sends a datagram.
    pub fn send(&self, bytes: &[u8]) -> nix::Result<usize> {
        send(self.messages.as_raw_fd(), bytes, MsgFlags::empty())
    }

    /// Waits for a datagram.
    pub fn receive(&self) -> nix::Result<Vec<u8>> {
        let mut bytes = vec![0; 1 << 20];
        let size = recv(self.messages.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
        bytes.truncate(size);
        Ok(bytes)
    }
}

/// A datagram socket with a name, connected to another.
pub fn datagram_pair(name: &str, peer: &str) -> OwnedFd {
    let socket = datagram_socket();
    let address = |name: &str| abstract_address(name).expect("a short name");
    bind(socket.as_raw_fd(), &address(name)).expect("the name is free");
    connect(socket.as_raw_fd(), &address(peer)).expect("the server has bound it");
    socket
}

/// A datagram socket with a receive time limit.
pub fn datagram_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).expect("descriptors");
    let patience = nix::sys::time::TimeVal::new(5, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a valid time");
    socket
}
