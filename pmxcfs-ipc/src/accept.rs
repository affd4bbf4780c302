//! Accepting, and the handshake.
//!
//! Who may connect is decided straight after accept, from what the kernel knows about the peer; nothing is made for a
//! process that may not. The 24 bytes of the connection request are collected nevertheless, in as many pieces as they
//! come, so that a refused client can read why; closing with unread data would be a reset.
//!
//! A refusal takes its time: a stranger that connects again and again waits for most of it, and takes little from the
//! others on this thread and this machine. How many of one user may wait is limited; any more cost three system calls.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, send, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::config::{HANDSHAKE_LIMIT, MIN_MESSAGE_SIZE};
use crate::connection::Connection;
use crate::directory::{ConnectionDirectory, NewDirectory};
use crate::exchange::{Caller, Channel};
use crate::handler::{Access, PeerCredentials};
use crate::listener::Listener;
use crate::readiness::watch;
use crate::service::Service;
use crate::shm_channel::ShmChannel;
use crate::socket_channel::SocketChannel;
use crate::wire::setup::{CONNECT_REQUEST_SIZE, ConnectRequest, ConnectResponse, Transport};

/// Connections accepted before clients get their turn.
const ACCEPTS_PER_TURN: usize = 4;

/// Time from the request of a client that is refused to the answer.
const REFUSAL_DELAY: Duration = Duration::from_millis(10);

/// How long to leave the listener alone, or a removal, when the system has no descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until the server stops.
pub(crate) struct Acceptor {
    service: Arc<Service>,
    /// One for each task of the server. Nothing is sent: the receiver learns when the last one is gone.
    alive: Sender<()>,
    /// Given up for a moment to accept and refuse when there are no other descriptors.
    spare: Option<File>,
    is_exhausted: bool,
}

impl Acceptor {
    pub(crate) fn new(service: Arc<Service>, alive: Sender<()>) -> io::Result<Self> {
        Ok(Self {
            service,
            alive,
            spare: Some(spare_descriptor()?),
            is_exhausted: false,
        })
    }

    pub(crate) async fn run(mut self, listener: Listener) {
        let service = Arc::clone(&self.service);
        let accepting = async {
            loop {
                match self.accept_some(&listener.socket).await {
                    Ok(()) => yield_now().await,
                    Err(error) => {
                        self.note_exhaustion(&error);
                        sleep(EXHAUSTED_PAUSE).await;
                    }
                }
            }
        };
        select! {
            () = accepting => {}
            _ = service.stop.ordered() => {}
        }
    }

    async fn accept_some(&mut self, listener: &AsyncFd<UnixListener>) -> io::Result<()> {
        let mut ready = listener.readable().await?;
        for _ in 0..ACCEPTS_PER_TURN {
            let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) else {
                return Ok(());
            };
            let error = match accepted {
                Ok((stream, _address)) => {
                    self.is_exhausted = false;
                    self.begin(stream);
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR | Errno::ECONNABORTED) => {}
                Some(reason @ (Errno::EMFILE | Errno::ENFILE)) => {
                    self.note_exhaustion(&error);
                    self.refuse_exhausted(listener.get_ref(), reason)?;
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    fn note_exhaustion(&mut self, error: &io::Error) {
        if !self.is_exhausted {
            self.is_exhausted = true;
            tracing::warn!(%error, "cannot accept IPC clients; trying again until it works");
        }
    }

    /// Nothing is left for another connection: answers the next client with the reason instead of letting it wait.
    fn refuse_exhausted(&mut self, listener: &UnixListener, reason: Errno) -> io::Result<()> {
        self.spare = None;
        match listener.accept() {
            Ok((stream, _address)) => {
                let mut request = [0; CONNECT_REQUEST_SIZE];
                if receive(&stream, &mut request).is_ok() {
                    refuse(&stream, reason);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.spare = Some(spare_descriptor()?);
        Ok(())
    }

    /// Decides about a client. One that has too many refusals to come is dropped.
    fn begin(&self, stream: UnixStream) {
        let service = &self.service;
        let Ok(credentials) = getsockopt(&stream, sockopt::PeerCredentials) else {
            return;
        };
        let peer = PeerCredentials {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        let granted = match service.handler.authorize(&peer) {
            None => Err(Errno::EACCES),
            Some(access) => match service.connections.admit(peer.uid) {
                None => Err(Errno::EAGAIN),
                Some(permit) => Ok((access, permit)),
            },
        };
        let (verdict, permit) = match granted {
            Ok((access, permit)) => (Ok(access), permit),
            Err(reason) => {
                service.note_refusal(peer, &reason);
                let Some(permit) = service.refusals.admit(peer.uid) else {
                    return;
                };
                (Err(reason), permit)
            }
        };
        let handshake = Handshake {
            peer,
            request: [0; CONNECT_REQUEST_SIZE],
            received: 0,
            alive: self.alive.clone(),
        };
        let service = Arc::clone(service);
        tokio::spawn(async move {
            if let Err(error) = handshake.run(&service, stream, verdict).await {
                let pid = peer.pid;
                tracing::debug!(pid, %error, "a client did not finish its handshake");
            }
            drop(permit);
        });
    }
}

/// A client between accept and the connection response.
struct Handshake {
    peer: PeerCredentials,
    request: [u8; CONNECT_REQUEST_SIZE],
    received: usize,
    alive: Sender<()>,
}

impl Handshake {
    /// Waits for the request and answers it; then serves the connection to its end.
    async fn run(
        mut self,
        service: &Arc<Service>,
        stream: UnixStream,
        verdict: Result<Access, Errno>,
    ) -> io::Result<()> {
        let stream = watch(stream)?;
        select! {
            collected = timeout(HANDSHAKE_LIMIT, self.collect_all(&stream)) => collected??,
            _ = service.stop.ordered() => return Ok(()),
        }
        let Ok(request) = ConnectRequest::decode(&self.request) else {
            return Err(Errno::EPROTO.into());
        };
        let access = match verdict {
            Ok(access) => access,
            Err(reason) => {
                sleep(REFUSAL_DELAY).await;
                refuse(stream.get_ref(), reason);
                return Ok(());
            }
        };
        let limit = service.config.max_message_size;
        let caller = Caller {
            peer: self.peer,
            access,
            max_message_size: request.max_message_size.clamp(MIN_MESSAGE_SIZE, limit),
        };
        match service.config.transport {
            Transport::Shm => establish::<ShmChannel>(service, stream, caller, self.alive).await,
            Transport::Socket => {
                establish::<SocketChannel>(service, stream, caller, self.alive).await;
            }
        }
        Ok(())
    }

    async fn collect_all(&mut self, stream: &AsyncFd<UnixStream>) -> io::Result<()> {
        loop {
            let mut ready = stream.readable().await?;
            if let Ok(is_complete) = ready.try_io(|stream| self.collect(stream.get_ref()))
                && is_complete?
            {
                return Ok(());
            }
        }
    }

    /// Reads more of the request; says whether it is complete.
    fn collect(&mut self, stream: &UnixStream) -> io::Result<bool> {
        match receive(stream, &mut self.request[self.received..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.received += count;
                Ok(self.received == CONNECT_REQUEST_SIZE)
            }
        }
    }
}

/// Makes the connection of a permitted client, and serves it.
async fn establish<C: Channel>(
    service: &Arc<Service>,
    stream: AsyncFd<UnixStream>,
    caller: Caller,
    alive: Sender<()>,
) {
    let number = stream.as_raw_fd();
    let creator = Arc::clone(service);
    let created = service.run_file_job(move || create::<C>(&creator, number, caller));
    let (channel, directory, response) = match created.await {
        Ok(created) => created,
        Err(error) => {
            service.note_refusal(caller.peer, &error);
            let reason = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            return refuse(stream.get_ref(), reason);
        }
    };
    let mut connection = Connection {
        stream,
        channel,
        caller,
        alive,
    };
    let reason = match send_whole(connection.stream.get_ref(), &*response.encode()) {
        Ok(()) => connection.run(service).await,
        Err(error) => error.into(),
    };
    let (pid, uid) = (caller.peer.pid, caller.peer.uid);
    tracing::debug!(pid, uid, %reason, "connection closed");
    remove(service, connection, directory).await;
}

/// Makes the server's side of a connection. Its files are named after `number` among others.
fn create<C: Channel>(
    service: &Service,
    number: i32,
    caller: Caller,
) -> io::Result<(C, ConnectionDirectory, ConnectResponse)> {
    let config = &service.config;
    let mut directory = NewDirectory::create(&config.shm_directory, caller.peer, number)?;
    let size = caller.max_message_size;
    let (channel, names) = C::create(&mut directory, &config.service, size)?;
    let response = ConnectResponse::Accepted {
        transport: C::TRANSPORT,
        max_message_size: size,
        connection: u64::from(number.unsigned_abs()),
        names,
    };
    Ok((channel, directory.give_to_client()?, response))
}

/// Removes what is left of a connection. When the server stops, that is done for all connections in one go.
async fn remove<C: Channel>(
    service: &Service,
    connection: Connection<C>,
    directory: ConnectionDirectory,
) {
    let mut left = Some((connection, directory));
    while let Some((connection, directory)) = left.take()
        && !service.stop.is_ordered()
    {
        let job = move || match directory.remove() {
            Err(Errno::EMFILE | Errno::ENFILE) => Ok(Some((connection, directory))),
            Err(error) => {
                tracing::debug!(?directory, %error, "connection directory not removed");
                Ok(None)
            }
            Ok(()) => Ok(None),
        };
        left = service.run_file_job(job).await.ok().flatten();
        if left.is_some() {
            sleep(EXHAUSTED_PAUSE).await;
        }
    }
}

fn receive(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT)?)
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
