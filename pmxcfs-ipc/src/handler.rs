//! The boundary to the service: who may connect, and what a request is answered with.

use bytes::Bytes;

/// Identity of the process at the other end, as the kernel recorded it when the process connected.
///
/// These are effective ids (`SO_PEERCRED`), which a privileged client cannot choose as it can those in a credentials
/// message, and which own the files that the client has to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// What a connection may do, decided once when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Nothing that changes state.
    ReadOnly,
}

/// One request. The bytes are a private copy; the client cannot change them any more.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Operation number, chosen by the client. Never -3.
    pub id: i32,
    /// What [`Handler::authorize`] said about this connection.
    pub access: Access,
    /// Who is asking.
    pub peer: PeerCredentials,
    /// Largest body of a response that the agreed message size allows, in bytes. A handler stops to make a larger one.
    pub max_response_size: usize,
    /// What follows the 16-byte header: exactly the bytes that the size field announces and that were received.
    pub body: &'a [u8],
}

/// The answer to a request: what follows the 24-byte header, or a positive errno, which travels negated. A client gets
/// `EMSGSIZE` instead of data that do not fit the agreed message size, which includes the header.
pub type Answer = Result<Bytes, i32>;

/// The service behind the transport.
///
/// All clients share one thread, and [`Handler::handle`] is called on it; only long requests run elsewhere, several at
/// a time.
pub trait Handler: Send + Sync + 'static {
    /// Decides whether a process may connect. `None` refuses it with EACCES, before anything is created for it.
    fn authorize(&self, peer: &PeerCredentials) -> Option<Access>;

    /// Whether this request can take a millisecond or more. It is then handled on a thread of its own, so that other
    /// clients need not wait for it; that costs the request some 30 us.
    fn is_long(&self, _request: &Request<'_>) -> bool {
        false
    }

    /// Answers one request, from memory: it must not wait for disks, peers or other clients. A panic is answered
    /// with EIO.
    fn handle(&self, request: &Request<'_>) -> Answer;
}
