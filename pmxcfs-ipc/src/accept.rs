//! Accepting, and the handshake.
//!
//! The server decides straight after accept whether a client may connect, from what the kernel knows about the peer, and makes
//! nothing for a process that may not. It collects the 24 bytes of the connection request nevertheless, so that a refused
//! client can read why; closing with unread data would be a reset.
//!
//! A refusal takes its time: a stranger that connects again and again waits for most of it, and takes little from the
//! others on this thread and this machine. How many of one user may wait is limited; any more cost three system calls.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, send, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::config::{HANDSHAKE_LIMIT, MIN_MESSAGE_SIZE};
use crate::connection::Connection;
use crate::directory;
use crate::exchange::{Caller, Channel};
use crate::handler::{Access, PeerCredentials};
use crate::listener::Listener;
use crate::readiness::watch;
use crate::service::Service;
use crate::shm_channel::ShmChannel;
use crate::socket_channel::SocketChannel;
use crate::throttle::Throttle;
use crate::wire::setup::{CONNECT_REQUEST_SIZE, ConnectResponse, Transport, decode_request};

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
    exhaustion_lines: Throttle,
}

impl Acceptor {
    pub(crate) fn new(service: Arc<Service>, alive: Sender<()>) -> io::Result<Self> {
        Ok(Self {
            service,
            alive,
            spare: Some(spare_descriptor()?),
            exhaustion_lines: Throttle::default(),
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
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = listener.async_io(Interest::READABLE, UnixListener::accept);
            let error = match accepted.await {
                Ok((stream, _address)) => {
                    self.begin(stream);
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ECONNABORTED) => {}
                Some(reason @ (Errno::EMFILE | Errno::ENFILE)) => {
                    self.note_exhaustion(&error);
                    self.refuse_exhausted(listener.get_ref(), reason)?;
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    fn note_exhaustion(&self, error: &io::Error) {
        if self.exhaustion_lines.pass().is_some() {
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
        let service = Arc::clone(&self.service);
        let Ok(credentials) = getsockopt(&stream, sockopt::PeerCredentials) else {
            return;
        };
        let peer = PeerCredentials {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        let access = service.handler.authorize(&peer).ok_or(Errno::EACCES);
        let granted = access.and_then(|access| {
            let permit = service.connections.admit(peer.uid).ok_or(Errno::EAGAIN)?;
            Ok((access, permit))
        });
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
        let alive = self.alive.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(&service, stream, peer, verdict, alive).await {
                let pid = peer.pid;
                tracing::debug!(pid, %error, "a client did not finish its handshake");
            }
            drop(permit);
        });
    }
}

/// Waits for a client's request and answers it; then serves the connection to its end.
async fn serve(
    service: &Arc<Service>,
    stream: UnixStream,
    peer: PeerCredentials,
    verdict: Result<Access, Errno>,
    alive: Sender<()>,
) -> io::Result<()> {
    let stream = watch(stream)?;
    let wanted_size = select! {
        wanted_size = timeout(HANDSHAKE_LIMIT, receive_request(&stream)) => wanted_size??,
        _ = service.stop.ordered() => return Ok(()),
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
        peer,
        access,
        max_message_size: wanted_size.clamp(MIN_MESSAGE_SIZE, limit),
    };
    match service.config.transport {
        Transport::Shm => establish::<ShmChannel>(service, stream, caller, alive).await,
        Transport::Socket => establish::<SocketChannel>(service, stream, caller, alive).await,
    }
    Ok(())
}

/// Collects the request, in as many pieces as it comes. Returns the message size that the client wants.
async fn receive_request(stream: &AsyncFd<UnixStream>) -> io::Result<u32> {
    let mut bytes = [0; CONNECT_REQUEST_SIZE];
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let received = stream.async_io(Interest::READABLE, |stream| receive(stream, rest));
        match received.await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => rest = &mut rest[count..],
        }
    }
    decode_request(&bytes).map_err(|_another_message| Errno::EPROTO.into())
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
    let (directory, channel, response) = match created.await.flatten() {
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
    let reason = match send_whole(connection.stream.get_ref(), &response) {
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
) -> io::Result<(PathBuf, C, ConnectResponse)> {
    let config = &service.config;
    let size = caller.max_message_size;
    let (directory, (channel, names)) = directory::create(
        &config.shm_directory,
        &service.files,
        caller.peer,
        number,
        |directory| C::create(directory, &config.service, size),
    )?;
    let response = ConnectResponse::Accepted {
        transport: config.transport,
        max_message_size: size,
        connection: u64::from(number.unsigned_abs()),
        names,
    };
    Ok((directory, channel, response))
}

/// Removes what is left of a connection. When the server stops, that is done for all connections in one go.
async fn remove<C: Channel>(service: &Arc<Service>, connection: Connection<C>, directory: PathBuf) {
    let mut left = Some((connection, directory));
    while let Some((connection, directory)) = left.take()
        && !service.stop.is_ordered()
    {
        let remover = Arc::clone(service);
        let job = move || match directory::remove(&directory, &remover.files) {
            Err(Errno::EMFILE | Errno::ENFILE) => Some((connection, directory)),
            removed => {
                directory::log_failure(&directory, removed);
                None
            }
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
fn send_whole(stream: &UnixStream, response: &ConnectResponse) -> nix::Result<()> {
    let bytes = response.encode();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let sent = send(stream.as_raw_fd(), &*bytes, flags)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EMSGSIZE)
    }
}

fn refuse(stream: &UnixStream, reason: Errno) {
    let error = -(reason as i32);
    if let Err(error) = send_whole(stream, &ConnectResponse::Refused { error }) {
        tracing::debug!(%error, "refused client is gone");
    }
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}
