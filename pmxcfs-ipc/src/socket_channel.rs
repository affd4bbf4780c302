//! Transport SOCKET: one datagram per message.
//!
//! The names of the sockets can be read by every local user, and an abstract socket has no permissions. So every
//! datagram carries its sender's credentials and is dropped unless they are the connection's, and the socket is
//! connected to the client's at the first good one, after which the kernel keeps others out. What cannot be prevented
//! is that somebody takes the client's name before the client does; its connect then fails.
//!
//! The control file is made because clients map it, and never looked at again.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect, recv,
    recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::directory::NewDirectory;
use crate::exchange::{Channel, Closing, Reply};
use crate::handler::PeerCredentials;
use crate::readiness::watch;
use crate::wire::address::abstract_address;
use crate::wire::credentials;

/// Size of the control file: three times a count and a flow control number, all 0.
const CONTROL_FILE_SIZE: u64 = 24;

/// The sockets of a connection.
#[derive(Debug)]
pub(crate) struct SocketChannel {
    requests: AsyncFd<OwnedFd>,
    /// Clients connect to it for events. None are ever sent.
    _events: OwnedFd,
    client_address: UnixAddr,
    max_message_size: usize,
    owner: PeerCredentials,
    is_connected: bool,
    /// Whether a datagram may be there.
    is_readable: bool,
}

/// Name of the control file of a connection of `service`.
pub(crate) fn control_file_name(service: &str) -> String {
    format!("qb-control-{service}")
}

impl Channel for SocketChannel {
    const REQUESTS_PER_TURN: usize = 1;

    fn create(
        directory: &NewDirectory<'_>,
        service: &str,
        max_message_size: u32,
    ) -> io::Result<(Self, [String; 3])> {
        let control_name = control_file_name(service);
        let control = directory.path_of(&control_name)?;
        directory.add_file(&control_name, CONTROL_FILE_SIZE, &[])?;
        let base = directory.path_of(&format!("qb-{service}"))?;
        let requests = bound_socket(&format!("{base}-request"))?;
        setsockopt(&requests, sockopt::PassCred, &true)?;
        enlarge_send_buffer(&requests, max_message_size)?;
        let channel = Self {
            requests: watch(requests)?,
            _events: bound_socket(&format!("{base}-event-tx"))?,
            client_address: abstract_address(&format!("{base}-response"))?,
            max_message_size: max_message_size as usize,
            owner: directory.peer,
            is_connected: false,
            is_readable: false,
        };
        Ok((channel, [control, base, String::new()]))
    }

    fn look(&mut self) -> bool {
        self.is_readable
    }

    /// Datagrams of others are dropped, and so are descriptors that come with one.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Closing> {
        let descriptor = self.requests.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        loop {
            let size = match recv(descriptor, &mut [], flags | MsgFlags::MSG_PEEK) {
                Ok(size) => size,
                Err(Errno::EAGAIN) => {
                    self.is_readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            let mut message = vec![0; size.min(self.max_message_size)];
            // With room for credentials only, the kernel does not let descriptors in.
            let mut control = nix::cmsg_space!(UnixCredentials);
            let mut parts = [IoSliceMut::new(&mut message)];
            let received = recvmsg::<UnixAddr>(descriptor, &mut parts, Some(&mut control), flags)?;
            // A forked child of the client may go on with the connection, but not begin it.
            let is_known =
                self.is_connected && received.address.as_ref() == Some(&self.client_address);
            match credentials::decode(&control) {
                Some((pid, uid))
                    if uid == self.owner.uid && (pid == self.owner.pid || is_known) => {}
                _ => continue,
            }
            if size > self.max_message_size {
                return Err(Closing::TooLarge(size));
            }
            return Ok(Some(message));
        }
    }

    fn respond(&mut self, reply: &Reply) -> Result<(), Closing> {
        if !self.is_connected {
            connect(self.requests.as_raw_fd(), &self.client_address)?;
            self.is_connected = true;
        }
        match self.send(reply) {
            // The send buffer could not be made large enough, or the kernel finds no memory in one piece.
            Err(Errno::EMSGSIZE | Errno::ENOBUFS) => self.send(&Reply::too_large(reply.id)),
            other => other,
        }
        .map_err(|error| match error {
            Errno::EAGAIN => Closing::NotReading,
            other => other.into(),
        })
    }

    async fn readable(&mut self) -> io::Result<()> {
        self.requests.readable().await?.clear_ready();
        self.is_readable = true;
        Ok(())
    }

    fn hang_up(&self) {}
}

impl SocketChannel {
    fn send(&self, reply: &Reply) -> nix::Result<()> {
        let parts = [IoSlice::new(&reply.header), IoSlice::new(&reply.body)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.requests.as_raw_fd(), &parts, &[], flags, None)?;
        Ok(())
    }
}

fn bound_socket(name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    bind(socket.as_raw_fd(), &abstract_address(name)?)?;
    Ok(socket)
}

/// Lets responses be as large as agreed. Without `CAP_NET_ADMIN` the kernel limits the buffer to
/// `2 * net.core.wmem_max` and larger responses become EMSGSIZE.
fn enlarge_send_buffer(socket: &OwnedFd, max_message_size: u32) -> nix::Result<()> {
    let size = max_message_size as usize;
    setsockopt(socket, sockopt::SndBufForce, &size)
        .or_else(|_not_permitted| setsockopt(socket, sockopt::SndBuf, &size))
}
