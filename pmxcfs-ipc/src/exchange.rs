//! One request and its response, whatever carries them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use nix::errno::Errno;

use crate::directory::NewDirectory;
use crate::handler::{Access, Answer, Handler, PeerCredentials, Request};
use crate::ring::RingViolation;
use crate::wire::DecodeError;
use crate::wire::request::{self, DISCONNECT_ID};
use crate::wire::response::{self, RESPONSE_HEADER_SIZE};

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closing {
    #[error("the client hung up")]
    HungUp,
    #[error("the client asked for it")]
    Requested,
    #[error("the server stops")]
    Stopped,
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
    Socket(#[from] io::Error),
}

impl From<Errno> for Closing {
    fn from(error: Errno) -> Self {
        Self::Socket(error.into())
    }
}

/// What carries the messages of one connection. Nothing here waits for the client but `readable`.
pub(crate) trait Channel: Sized + Send + Sync + 'static {
    /// Requests that are handled before other connections get their turn.
    const REQUESTS_PER_TURN: usize;

    /// Makes the server's side for messages of up to `max_message_size` bytes, with its files in `directory`. Returns
    /// the names for the connection response, too.
    fn create(
        directory: &NewDirectory<'_>,
        service: &str,
        max_message_size: u32,
    ) -> io::Result<(Self, [String; 3])>;

    /// Looks for requests, without a system call, and says whether there are any.
    fn look(&mut self) -> bool;

    /// Takes the next of the requests that were there at the last look.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Closing>;

    /// Hands over a response.
    fn respond(&mut self, reply: &Reply) -> Result<(), Closing>;

    /// Waits for a request that is not announced on the stream socket.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Tells the client that the connection is over.
    fn hang_up(&self);
}

/// Who is at the other end, and what was agreed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) peer: PeerCredentials,
    pub(crate) access: Access,
    /// Agreed maximum message size, in bytes with header.
    pub(crate) max_message_size: u32,
}

impl Caller {
    /// Reads one message as it came from the client.
    pub(crate) fn request<'m>(&self, message: &'m [u8]) -> Result<Request<'m>, Closing> {
        let (id, body) = request::decode(message)?;
        if id == DISCONNECT_ID {
            return Err(Closing::Requested);
        }
        Ok(Request {
            id,
            access: self.access,
            peer: self.peer,
            max_response_size: self.max_message_size as usize - RESPONSE_HEADER_SIZE,
            body,
        })
    }
}

/// Has a request answered.
pub(crate) fn answer(handler: &dyn Handler, request: &Request<'_>) -> Reply {
    let span = tracing::debug_span!("ipc", op = request.id, pid = request.peer.pid);
    let answer = span.in_scope(|| {
        catch_unwind(AssertUnwindSafe(|| handler.handle(request))).unwrap_or_else(|_panic| {
            tracing::error!("the handler panicked");
            Err(libc::EIO)
        })
    });
    Reply::new(request.id, answer, request.max_response_size)
}

/// A response that fits the agreed size, ready to travel.
pub(crate) struct Reply {
    pub(crate) header: [u8; RESPONSE_HEADER_SIZE],
    pub(crate) body: Bytes,
    pub(crate) id: i32,
}

impl Reply {
    fn new(id: i32, answer: Answer, max_size: usize) -> Self {
        let error = answer
            .as_ref()
            .map_or_else(|errno| errno.saturating_neg(), |_body| 0);
        let body = answer.unwrap_or_default();
        match i32::try_from(body.len() + RESPONSE_HEADER_SIZE) {
            Ok(size) if body.len() <= max_size => Self {
                header: response::encode(id, size, error),
                body,
                id,
            },
            _ => Self::too_large(id),
        }
    }

    /// What a client gets instead of a response that cannot be carried.
    pub(crate) fn too_large(id: i32) -> Self {
        Self::new(id, Err(libc::EMSGSIZE), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Reply;

    #[test]
    fn a_response_may_fill_the_agreed_size_and_no_more() {
        let size_of = |body: usize| {
            let reply = Reply::new(7, Ok(vec![1; body].into()), 12304);
            let field = |offset: usize| {
                i32::from_le_bytes(reply.header[offset..offset + 4].try_into().unwrap())
            };
            (field(8), field(16), reply.body.len())
        };
        assert_eq!(size_of(0), (24, 0, 0));
        assert_eq!(size_of(12304), (12328, 0, 12304));
        assert_eq!(size_of(12305), (24, -libc::EMSGSIZE, 0));
    }
}
