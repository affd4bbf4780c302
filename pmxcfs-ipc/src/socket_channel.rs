//! Transport SOCKET: one datagram per message.
//!
//! The names of the sockets can be read by every local user, and an abstract socket has no permissions. So every
//! datagram carries its sender's credentials and is dropped unless they are the connection's, and the socket is
//! connected to the client's at the first good one, after which the kernel keeps others out. What cannot be prevented
//! is that somebody takes the client's name before the client does; its connect then fails.
//!
//! The control file is made because clients map it, and never looked at again.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect,
    recvmsg, sendmsg, setsockopt, socket, sockopt,
};

use crate::connection::{Caller, Closing, Outcome, Reply};
use crate::directory::NewDirectory;
use crate::handler::{Handler, PeerCredentials};
use crate::wire::address::abstract_address;

/// Size of the control file: three times a count and a flow control number, all 0.
const CONTROL_FILE_SIZE: u64 = 24;

/// The sockets of a connection.
#[derive(Debug)]
pub(crate) struct SocketChannel {
    requests: OwnedFd,
    /// Clients connect to it for events. None are ever sent.
    _events: OwnedFd,
    client_address: UnixAddr,
    is_connected: bool,
}

/// Name of the control file of a connection of `service`.
pub(crate) fn control_file_name(service: &str) -> String {
    format!("qb-control-{service}")
}

/// What one attempt to receive brought.
enum Received {
    Nothing,
    /// Not from the client.
    Foreign,
    Message(usize),
}

impl SocketChannel {
    /// Makes the control file in `directory` and binds the server's sockets. Returns the names for the connection
    /// response, too.
    pub(crate) fn create(
        directory: &mut NewDirectory,
        service: &str,
        max_message_size: u32,
    ) -> std::io::Result<(Self, [String; 3])> {
        let control_name = control_file_name(service);
        let control = directory.path_of(&control_name)?;
        directory.add_file(control_name, CONTROL_FILE_SIZE, &[])?;
        let base = directory.path_of(&format!("qb-{service}"))?;
        let requests = bound_socket(&format!("{base}-request"))?;
        setsockopt(&requests, sockopt::PassCred, &true)?;
        enlarge_send_buffer(&requests, max_message_size)?;
        let channel = Self {
            requests,
            _events: bound_socket(&format!("{base}-event-tx"))?,
            client_address: abstract_address(&format!("{base}-response"))?,
            is_connected: false,
        };
        Ok((channel, [control, base, String::new()]))
    }

    /// Where requests arrive.
    pub(crate) fn request_socket(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }

    /// Handles one datagram. A client that answers quickly would otherwise be served again before all others.
    pub(crate) fn run(
        &mut self,
        caller: &Caller,
        handler: &dyn Handler,
        buffer: &mut [u8],
    ) -> Result<Outcome, Closing> {
        let buffer = &mut buffer[..caller.max_message_size as usize];
        match self.receive(caller.peer, buffer)? {
            Received::Nothing => return Ok(Outcome::Idle),
            Received::Foreign => {}
            Received::Message(size) => {
                let reply = caller.answer(handler, &buffer[..size])?;
                self.respond(&reply)?;
            }
        }
        Ok(Outcome::More)
    }

    fn receive(&self, peer: PeerCredentials, buffer: &mut [u8]) -> Result<Received, Closing> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let room = buffer.len();
        let mut parts = [IoSliceMut::new(buffer)];
        let descriptor = self.requests.as_raw_fd();
        let received = match recvmsg::<UnixAddr>(descriptor, &mut parts, Some(&mut control), flags)
        {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        let is_from_client = received.cmsgs()?.any(|message| match message {
            ControlMessageOwned::ScmCredentials(sender) => {
                // A forked child of the client may go on with the connection, but not begin it.
                let is_known =
                    self.is_connected && received.address.as_ref() == Some(&self.client_address);
                sender.uid() == peer.uid && (sender.pid() == peer.pid || is_known)
            }
            _ => false,
        });
        if !is_from_client {
            return Ok(Received::Foreign);
        }
        if received.bytes > room {
            return Err(Closing::TooLarge(received.bytes));
        }
        Ok(Received::Message(received.bytes))
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

    fn send(&self, reply: &Reply) -> nix::Result<()> {
        let parts = [
            IoSlice::new(&reply.header),
            IoSlice::new(&reply.response.body),
        ];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.requests.as_raw_fd(), &parts, &[], flags, None)?;
        Ok(())
    }
}

fn bound_socket(name: &str) -> std::io::Result<OwnedFd> {
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
