//! One client's connection, from the accepted handshake to the removal of its files.
//!
//! When a worker is slow another takes over the waiting for events, so news about a connection can arrive on one thread
//! while another is busy with it. [`Turn`] makes sure that one worker at a time runs a connection, that no news is
//! lost, and that a worker never waits for another.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::admission::Permit;
use crate::directory::ConnectionDirectory;
use crate::handler::{Access, Handler, PeerCredentials, Request, Response};
use crate::ring::RingViolation;
use crate::shm_channel::ShmChannel;
use crate::socket_channel::SocketChannel;
use crate::wire::DecodeError;
use crate::wire::request::{DISCONNECT_ID, RequestHeader};
use crate::wire::response::{RESPONSE_HEADER_SIZE, ResponseHeader};

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything that was there is handled.
    Idle,
    /// Requests may be left; the connection needs another turn without waiting for input.
    More,
    /// The connection is over.
    Close(Closing),
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closing {
    #[error("the client hung up")]
    HungUp,
    #[error("the client asked for it")]
    Requested,
    #[error("a shared file was truncated")]
    CutOff,
    #[error(transparent)]
    Ring(#[from] RingViolation),
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error("request of {0} bytes is larger than agreed")]
    TooLarge(usize),
    #[error("the client does not take its responses")]
    NotReading,
    #[error("socket failed: {0}")]
    Socket(#[from] nix::Error),
}

/// The transport's side of a connection.
#[derive(Debug)]
pub(crate) enum Channel {
    Shm(ShmChannel),
    Socket(SocketChannel),
    /// Taken apart.
    Closed,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) caller: Caller,
    pub(crate) stream: UnixStream,
    pub(crate) turn: Turn,
    /// Held by the worker that runs the connection, across the handler. Never taken while another lock is held.
    pub(crate) channel: Mutex<Channel>,
    pub(crate) directory: ConnectionDirectory,
    pub(crate) _permit: Permit,
}

impl Connection {
    /// Handles what is there. `buffer` has room for the largest agreed message.
    pub(crate) fn run(&self, handler: &dyn Handler, buffer: &mut [u8]) -> Outcome {
        let mut channel = self.channel.lock();
        let result = match &mut *channel {
            Channel::Shm(channel) => {
                channel.run(self.stream.as_fd(), &self.caller, handler, buffer)
            }
            Channel::Socket(channel) => channel.run(&self.caller, handler, buffer),
            Channel::Closed => Ok(Outcome::Idle),
        };
        result.unwrap_or_else(Outcome::Close)
    }

    /// The descriptor beside the stream that brings requests, if the transport has one.
    pub(crate) fn with_request_socket<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        match &*self.channel.lock() {
            Channel::Socket(channel) => Some(f(channel.request_socket())),
            Channel::Shm(_) | Channel::Closed => None,
        }
    }
}

/// Who is at the other end, and what was agreed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) peer: PeerCredentials,
    pub(crate) access: Access,
    /// Agreed maximum message size, in bytes with header.
    pub(crate) max_message_size: u32,
}

/// A response that fits the agreed size, ready to travel.
pub(crate) struct Reply {
    pub(crate) header: [u8; RESPONSE_HEADER_SIZE],
    pub(crate) response: Response,
    pub(crate) id: i32,
}

impl Reply {
    fn new(id: i32, response: Response, max_message_size: u32) -> Self {
        let size = response.body.len().saturating_add(RESPONSE_HEADER_SIZE);
        match i32::try_from(size) {
            Ok(size) if size.unsigned_abs() <= max_message_size => {
                let error = response.error.saturating_neg();
                Self {
                    header: ResponseHeader { id, size, error }.encode(),
                    response,
                    id,
                }
            }
            _ => Self::too_large(id),
        }
    }

    /// What a client gets instead of a response that cannot be carried.
    pub(crate) fn too_large(id: i32) -> Self {
        let response = Response::failure(libc::EMSGSIZE);
        Self::new(id, response, u32::MAX)
    }
}

impl Caller {
    /// Answers one message as it came from the client.
    pub(crate) fn answer(&self, handler: &dyn Handler, message: &[u8]) -> Result<Reply, Closing> {
        let (RequestHeader { id }, body) = RequestHeader::decode(message)?;
        if id == DISCONNECT_ID {
            return Err(Closing::Requested);
        }
        let request = Request {
            id,
            access: self.access,
            peer: self.peer,
            body,
        };
        let span = tracing::debug_span!("ipc", op = id, pid = self.peer.pid);
        let response = span.in_scope(|| {
            catch_unwind(AssertUnwindSafe(|| handler.handle(&request))).unwrap_or_else(|_panic| {
                tracing::error!("the handler panicked");
                Response::failure(libc::EIO)
            })
        });
        Ok(Reply::new(id, response, self.max_message_size))
    }
}

/// Who runs a connection, without blocking.
#[derive(Debug)]
pub(crate) struct Turn(AtomicU8);

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
/// Running, and something has happened since.
const NEWS: u8 = 2;
const CLOSED: u8 = 3;

impl Turn {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(IDLE))
    }

    /// Begins a turn. If another worker is in one, it is told that there is news; if the connection is closed, there
    /// is nothing to do.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.0.load(Ordering::Acquire);
        loop {
            let next = match state {
                IDLE => RUNNING,
                RUNNING => NEWS,
                _ => return false,
            };
            let result =
                self.0
                    .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire);
            match result {
                Ok(before) => return before == IDLE,
                Err(now) => state = now,
            }
        }
    }

    /// Ends a turn; says whether there was news during it.
    pub(crate) fn end(&self) -> bool {
        self.0.swap(IDLE, Ordering::AcqRel) == NEWS
    }

    /// Ends the last turn.
    pub(crate) fn close(&self) {
        self.0.store(CLOSED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, Turn};
    use crate::handler::Response;

    #[test]
    fn news_during_a_turn_is_not_lost() {
        let turn = Turn::new();
        assert!(turn.begin());
        assert!(!turn.begin(), "one worker at a time");
        assert!(turn.end(), "the news of the second");
        assert!(turn.begin());
        assert!(!turn.end());
        assert!(turn.begin());
        turn.close();
        assert!(!turn.begin());
        assert!(!turn.begin());
    }

    #[test]
    fn a_response_may_fill_the_agreed_size_and_no_more() {
        let size_of = |body: usize| {
            let reply = Reply::new(7, Response::success(vec![1; body]), 12328);
            let field = |offset: usize| {
                i32::from_le_bytes(reply.header[offset..offset + 4].try_into().unwrap())
            };
            (field(8), field(16), reply.response.body.len())
        };
        assert_eq!(size_of(0), (24, 0, 0));
        assert_eq!(size_of(12304), (12328, 0, 12304));
        assert_eq!(size_of(12305), (24, -libc::EMSGSIZE, 0));
    }
}
