//! Numbers of requests.

/// The kernel sets this bit when it sends a request again, because the process that has taken it ended without an answer.
const RESENT: u64 = 1 << 63;

/// The number of a request of the kernel, as long as the mount lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// The request with this number in its header.
    pub const fn new(unique: u64) -> Self {
        Self(unique)
    }

    /// Whether a former process may have carried it out.
    pub(super) const fn is_resent(self) -> bool {
        self.0 & RESENT != 0
    }

    /// The same for a request and its repetitions.
    pub(super) const fn key(self) -> u64 {
        self.0 & !RESENT
    }
}
