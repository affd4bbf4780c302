//! Accepting, the handshake, and the files of connections.
//!
//! Who may connect is decided straight after accept, from what the kernel knows about the peer; nothing is made for a
//! process that may not. The 24 bytes of the connection request are collected nevertheless, in as many pieces as they
//! come, so that a refused client can read why; closing with unread data would be a reset.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, getsockopt, recv, send, sockopt};
use parking_lot::Mutex;

use crate::admission::Permit;
use crate::config::{HANDSHAKE_LIMIT, MAX_PENDING_REFUSALS, MIN_MESSAGE_SIZE, Transport};
use crate::connection::{Caller, Channel, Connection, Turn};
use crate::directory::NewDirectory;
use crate::handler::{Access, PeerCredentials};
use crate::listener::Listener;
use crate::server::{Shared, hang_up, remove_files};
use crate::shm_channel::ShmChannel;
use crate::socket_channel::SocketChannel;
use crate::wire::setup::{CONNECT_REQUEST_SIZE, ConnectRequest, ConnectResponse};
use crate::worker;

const LISTENER_TOKEN: u64 = 0;
const WAKE_UP_TOKEN: u64 = 1;
const FIRST_HANDSHAKE_TOKEN: u64 = 2;

/// Connections accepted before handshakes and removals get their turn.
const ACCEPTS_PER_TURN: usize = 16;

/// How long to leave the listener alone, or a removal, when the system has no descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A client between accept and the connection response.
struct Handshake {
    stream: UnixStream,
    peer: PeerCredentials,
    /// What the answer will be: a positive errno is a refusal.
    verdict: Result<(Access, Permit), Errno>,
    request: [u8; CONNECT_REQUEST_SIZE],
    received: usize,
}

/// The `ipc-setup` thread.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    listener: Listener,
    epoll: Epoll,
    handshakes: HashMap<u64, Handshake>,
    /// When handshakes run out of time, in order. Those that are complete are still listed.
    deadlines: VecDeque<(Instant, u64)>,
    pending_refusals: usize,
    next_token: u64,
    next_connection: u64,
    /// Given up for a moment to accept and refuse when there are no other descriptors.
    spare: Option<File>,
    is_exhausted: bool,
    paused_until: Option<Instant>,
    /// Connections whose files could not be removed for lack of a descriptor.
    unremoved: Vec<Arc<Connection>>,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>, listener: Listener) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(&listener.socket, event(LISTENER_TOKEN))?;
        epoll.add(&shared.setup_wake_up, event(WAKE_UP_TOKEN))?;
        Ok(Self {
            shared,
            listener,
            epoll,
            handshakes: HashMap::new(),
            deadlines: VecDeque::new(),
            pending_refusals: 0,
            next_token: FIRST_HANDSHAKE_TOKEN,
            next_connection: 1,
            spare: Some(spare_descriptor()?),
            is_exhausted: false,
            paused_until: None,
            unremoved: Vec::new(),
        })
    }

    /// Serves until the server stops.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        while !self.shared.is_stopping() {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!(%error, "IPC set-up cannot wait for events");
                    return;
                }
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER_TOKEN => self.accept(),
                    WAKE_UP_TOKEN => self.remove_retired(),
                    token => self.continue_handshake(token),
                }
            }
            self.expire(Instant::now());
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let handshake = self.deadlines.front().map(|(deadline, _token)| *deadline);
        let retry = (!self.unremoved.is_empty()).then(|| Instant::now() + EXHAUSTED_PAUSE);
        let next = [handshake, retry, self.paused_until];
        let Some(deadline) = next.into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let rounded_up = left + Duration::from_millis(1);
        EpollTimeout::try_from(rounded_up).unwrap_or(EpollTimeout::NONE)
    }

    fn expire(&mut self, now: Instant) {
        while let Some((deadline, token)) = self.deadlines.front().copied()
            && deadline <= now
        {
            self.deadlines.pop_front();
            self.forget(token);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.listen(true);
        }
        for connection in std::mem::take(&mut self.unremoved) {
            self.remove(connection);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let stream = match self.listener.socket.accept() {
                Ok((stream, _address)) => stream,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EINTR | Errno::ECONNABORTED) => continue,
                    Some(reason @ (Errno::EMFILE | Errno::ENFILE)) => {
                        self.refuse_exhausted(reason);
                        continue;
                    }
                    _ => {
                        self.pause(&error);
                        return;
                    }
                },
            };
            self.is_exhausted = false;
            self.begin_handshake(stream);
            if self.paused_until.is_some() {
                return;
            }
        }
    }

    /// Nothing is left for another connection: answers the next client with the reason instead of letting it wait.
    fn refuse_exhausted(&mut self, reason: Errno) {
        if !self.is_exhausted {
            self.is_exhausted = true;
            tracing::warn!(%reason, "refusing IPC clients until descriptors are free again");
        }
        self.spare = None;
        match self.listener.socket.accept() {
            Ok((stream, _address)) => {
                let mut request = [0; CONNECT_REQUEST_SIZE];
                if receive(&stream, &mut request).is_ok() {
                    refuse(&stream, reason);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.pause(&error),
        }
        match spare_descriptor() {
            Ok(spare) => self.spare = Some(spare),
            Err(error) => self.pause(&error),
        }
    }

    /// Leaves the listener alone for a while.
    fn pause(&mut self, error: &io::Error) {
        if !self.is_exhausted {
            self.is_exhausted = true;
            tracing::warn!(%error, "cannot accept IPC clients, trying again");
        }
        if self.paused_until.is_none() {
            self.paused_until = Some(Instant::now() + EXHAUSTED_PAUSE);
            self.listen(false);
        }
    }

    fn listen(&self, enable: bool) {
        let flags = if enable {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::empty()
        };
        let mut event = EpollEvent::new(flags, LISTENER_TOKEN);
        if let Err(error) = self.epoll.modify(&self.listener.socket, &mut event) {
            tracing::error!(%error, enable, "cannot change interest in the IPC listener");
        }
    }

    fn begin_handshake(&mut self, stream: UnixStream) {
        let Ok(credentials) = getsockopt(&stream, sockopt::PeerCredentials) else {
            return;
        };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let peer = PeerCredentials {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        let verdict = match self.shared.handler.authorize(&peer) {
            None => Err(Errno::EACCES),
            Some(access) => self
                .shared
                .admission
                .admit(peer.uid)
                .map(|permit| (access, permit))
                .ok_or(Errno::EAGAIN),
        };
        let mut handshake = Handshake {
            stream,
            peer,
            verdict,
            request: [0; CONNECT_REQUEST_SIZE],
            received: 0,
        };
        match handshake.collect() {
            Ok(true) => self.finish(handshake),
            Ok(false) => self.wait_for(handshake),
            Err(_gone) => {}
        }
    }

    fn wait_for(&mut self, handshake: Handshake) {
        let is_refusal = handshake.verdict.is_err();
        if is_refusal && self.pending_refusals >= MAX_PENDING_REFUSALS {
            return;
        }
        let token = self.next_token;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        if let Err(error) = self.epoll.add(&handshake.stream, event) {
            tracing::warn!(%error, "cannot watch a handshake");
            return;
        }
        self.next_token += 1;
        self.pending_refusals += usize::from(is_refusal);
        self.handshakes.insert(token, handshake);
        self.deadlines
            .push_back((Instant::now() + HANDSHAKE_LIMIT, token));
    }

    fn continue_handshake(&mut self, token: u64) {
        let Some(handshake) = self.handshakes.get_mut(&token) else {
            return;
        };
        match handshake.collect() {
            Ok(false) => {}
            Ok(true) => {
                if let Some(handshake) = self.forget(token) {
                    self.finish(handshake);
                }
            }
            Err(_gone) => {
                self.forget(token);
            }
        }
    }

    /// Stops to wait for a handshake.
    fn forget(&mut self, token: u64) -> Option<Handshake> {
        let handshake = self.handshakes.remove(&token)?;
        self.pending_refusals -= usize::from(handshake.verdict.is_err());
        if let Err(error) = self.epoll.delete(&handshake.stream) {
            tracing::warn!(%error, "cannot stop watching a handshake");
        }
        Some(handshake)
    }

    /// Answers a complete request.
    fn finish(&mut self, handshake: Handshake) {
        let Ok(request) = ConnectRequest::decode(&handshake.request) else {
            return;
        };
        let (access, permit) = match handshake.verdict {
            Ok(granted) => granted,
            Err(reason) => return refuse(&handshake.stream, reason),
        };
        let wanted = request.max_message_size;
        let caller = Caller {
            peer: handshake.peer,
            access,
            max_message_size: wanted.clamp(MIN_MESSAGE_SIZE, self.shared.max_message_size),
        };
        let number = self.next_connection;
        self.next_connection += 1;
        let (channel, directory, response) = match self.create_channel(
            handshake.stream.as_raw_fd(),
            &caller,
            number,
        ) {
            Ok(created) => created,
            Err(error) => {
                tracing::warn!(%error, pid = caller.peer.pid, "cannot set up an IPC connection");
                let reason = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                return refuse(&handshake.stream, reason);
            }
        };
        let connection = Arc::new(Connection {
            number,
            caller,
            stream: handshake.stream,
            turn: Turn::new(),
            channel: Mutex::new(channel),
            directory,
            _permit: permit,
        });
        let mut connections = self.shared.connections.write();
        connections.insert(number, Arc::clone(&connection));
        drop(connections);
        let started = worker::watch(&self.shared, &connection)
            .and_then(|()| send_whole(&connection.stream, &*response.encode()));
        if let Err(error) = started {
            tracing::debug!(%error, pid = caller.peer.pid, "client left during the handshake");
            connection.turn.close();
            self.shared.retire(&connection);
        }
    }

    fn create_channel(
        &self,
        descriptor: i32,
        caller: &Caller,
        number: u64,
    ) -> io::Result<(
        Channel,
        crate::directory::ConnectionDirectory,
        ConnectResponse,
    )> {
        let config = &self.shared.config;
        let mut directory = NewDirectory::create(&config.shm_directory, caller.peer, descriptor)?;
        let (service, size) = (config.service.as_str(), caller.max_message_size);
        let (channel, names) = match config.transport {
            Transport::Shm => {
                let (channel, names) = ShmChannel::create(&mut directory, service, size)?;
                (Channel::Shm(channel), names)
            }
            Transport::Socket => {
                let (channel, names) = SocketChannel::create(&mut directory, service, size)?;
                (Channel::Socket(channel), names)
            }
        };
        let response = ConnectResponse::Accepted {
            transport: config.transport,
            max_message_size: size,
            connection: number,
            names,
        };
        Ok((channel, directory.give_to_client()?, response))
    }

    fn remove_retired(&mut self) {
        // An error can only mean that the count is zero: somebody else's wake-up was already served.
        let _spurious = self.shared.setup_wake_up.read();
        let retired = std::mem::take(&mut *self.shared.retired.lock());
        for connection in retired {
            hang_up(&connection);
            self.remove(connection);
        }
    }

    fn remove(&mut self, connection: Arc<Connection>) {
        if remove_files(&connection).is_err() {
            self.unremoved.push(connection);
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // What could not be removed yet is for whoever stops the server.
        self.shared.retired.lock().append(&mut self.unremoved);
    }
}

impl Handshake {
    /// Reads more of the request; true when it is complete.
    fn collect(&mut self) -> nix::Result<bool> {
        match receive(&self.stream, &mut self.request[self.received..]) {
            Ok(0) => Err(Errno::ENOTCONN),
            Ok(count) => {
                self.received += count;
                Ok(self.received == CONNECT_REQUEST_SIZE)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn receive(stream: &UnixStream, into: &mut [u8]) -> nix::Result<usize> {
    recv(stream.as_fd().as_raw_fd(), into, MsgFlags::MSG_DONTWAIT)
}

/// Sends in one piece: clients do not look for a second one.
fn send_whole(stream: &UnixStream, bytes: &[u8]) -> nix::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let sent = send(stream.as_raw_fd(), bytes, flags)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EMSGSIZE)
    }
}

fn refuse(stream: &UnixStream, reason: Errno) {
    let error = -(reason as i32);
    let response = ConnectResponse::Refused { error };
    if let Err(error) = send_whole(stream, &*response.encode()) {
        tracing::debug!(%error, "refused client is gone");
    }
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}
