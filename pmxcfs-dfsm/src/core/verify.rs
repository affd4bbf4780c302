//! The hourly comparison of checksums.

use bytes::Bytes;
use pmxcfs_memdb::Digest;

use super::{LogLevel, Machine, MemberId, Mode};
use crate::{
    app::Application,
    wire::{MessageKind, VerifyMessage},
};

impl<A: Application> Machine<A> {
    /// The member with the lowest node id requests a verification.
    pub(super) fn verify_when_due(&mut self) {
        let is_due = self.verifier.is_due(self.now.monotonic_ms);
        if !A::IS_EXACT || !is_due || self.mode() != Mode::Synced || !self.is_lowest() {
            return;
        }
        if self.verifier.request_count != self.verifier.saved_id {
            return self.log(LogLevel::Info, "delay verify request");
        }
        self.verifier.request_count += 1;
        let request = VerifyMessage {
            id: self.verifier.request_count,
            checksum: None,
        };
        self.send_state(MessageKind::VerifyRequest, request.encode());
    }

    /// All members compute a checksum at the same point of the order; the one that asked sends its own.
    pub(super) fn verify_requested(&mut self, sender: MemberId, payload: &Bytes) {
        let Ok(request) = VerifyMessage::decode_request(payload) else {
            return self.leave("verification request of a wrong length");
        };
        if !A::IS_EXACT {
            return;
        }
        let checksum = self.app.checksum();
        self.verifier.saved_id = request.id;
        self.verifier.saved = Some((self.epoch, checksum));
        if self.local == Some(sender) {
            let answer = VerifyMessage {
                id: request.id,
                checksum: Some(checksum),
            };
            self.send_state(MessageKind::Verify, answer.encode());
        }
    }

    pub(super) fn compare_checksum(&mut self, payload: &Bytes) {
        if !A::IS_EXACT {
            return;
        }
        let Ok(message) = VerifyMessage::decode_checksum(payload) else {
            return self.leave("verification of a wrong length");
        };
        let saved = self
            .verifier
            .saved
            .filter(|(epoch, _)| *epoch == self.epoch && self.verifier.saved_id == message.id);
        match (saved, message.checksum) {
            (Some((_, own)), Some(theirs)) if own == theirs => {
                self.log(LogLevel::Info, "data verification successful");
            }
            (Some((_, own)), Some(theirs)) => {
                let reason = format!(
                    "checksum mismatch: own {}, sent {}",
                    first_half(&own),
                    first_half(&theirs)
                );
                self.leave(&reason);
            }
            _ => self.log(LogLevel::Info, "skip verification - no checksum saved"),
        }
    }
}

/// The first 8 bytes as a number, which is what C daemons log.
fn first_half(digest: &Digest) -> String {
    let number = digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    format!("{number:016X}")
}
