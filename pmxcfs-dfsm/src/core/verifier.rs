//! The memory of a member about comparisons of checksums.

use pmxcfs_memdb::Digest;

use crate::wire::Epoch;

/// Time between two verifications.
const PERIOD_MS: u64 = 3_600_000;

/// The last comparison and the time of the next one.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    /// Number of requests made by this process.
    pub(super) request_count: u64,
    /// Id of the last request seen; own number of requests after a membership change.
    pub(super) saved_id: u64,
    /// Epoch and checksum of `saved_id`, until the membership changes.
    pub(super) saved: Option<(Epoch, Digest)>,
    due_ms: Option<u64>,
}

impl Verifier {
    /// The period runs from the first event on.
    pub(super) fn start(&mut self, now_ms: u64) {
        self.due_ms.get_or_insert(now_ms.saturating_add(PERIOD_MS));
    }

    /// A verification that is under way has no result.
    pub(super) fn forget(&mut self) {
        self.saved_id = self.request_count;
        self.saved = None;
    }

    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = self.due_ms.is_some_and(|due| now_ms >= due);
        if is_due {
            self.due_ms = Some(now_ms.saturating_add(PERIOD_MS));
        }
        is_due
    }
}
