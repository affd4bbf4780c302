//! The header of a request: its number, which stays the same when the kernel sends it again, its user and its program.

use pmxcfs_memdb::store::Asker;

/// The kernel sets this bit when it sends a request again, because the process that has taken it ended without an answer.
const RESENT: u64 = 1 << 63;

/// The header of a request of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// Its number, as long as the mount lasts.
    number: u64,
    /// User that asks.
    pub(super) uid: u32,
    /// Program that asks for a change, if the history wants to know.
    pub(super) asker: Option<Asker>,
}

impl RequestHeader {
    /// The header of the request with this number.
    pub const fn new(number: u64, uid: u32, asker: Option<Asker>) -> Self {
        Self { number, uid, asker }
    }

    /// Whether a former process may have carried it out.
    pub(super) const fn is_resent(self) -> bool {
        self.number & RESENT != 0
    }

    /// The same for a request and its repetitions.
    pub(super) const fn key(self) -> u64 {
        self.number & !RESENT
    }
}
