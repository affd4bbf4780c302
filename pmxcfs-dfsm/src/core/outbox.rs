//! Messages that corosync did not want yet.
//!
//! Sending must not overtake: while one message waits, all later ones wait behind it. Nothing here blocks the handling of
//! deliveries, and every wait is bounded.

use std::collections::VecDeque;

use bytes::Bytes;

/// How long corosync may refuse before the message counts as not sent.
const GIVE_UP_MS: u64 = 10_000;

/// Time between attempts.
const RETRY_MS: u64 = 100;

/// Messages waiting for another attempt.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Bytes>,
    /// When corosync first refused, and when the last attempt was.
    blocked: Option<(u64, u64)>,
}

impl Outbox {
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, message: Bytes) {
        self.waiting.push_back(message);
    }

    /// Puts messages before all that wait.
    pub(super) fn put_back(&mut self, unsent: Vec<Bytes>, now_ms: u64) {
        if unsent.is_empty() {
            return;
        }
        for message in unsent.into_iter().rev() {
            self.waiting.push_front(message);
        }
        let since = self.blocked.map_or(now_ms, |(since, _)| since);
        self.blocked = Some((since, now_ms));
    }

    /// What to send now: everything that waits, if it is time for another attempt. If nothing waits, the last attempt
    /// went through.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Bytes> {
        if !self.is_blocked() {
            self.blocked = None;
        }
        match self.blocked {
            Some((_, last)) if now_ms.saturating_sub(last) < RETRY_MS => Vec::new(),
            _ => self.waiting.drain(..).collect(),
        }
    }

    pub(super) fn is_hopeless(&self, now_ms: u64) -> bool {
        self.is_blocked()
            && self
                .blocked
                .is_some_and(|(since, _)| now_ms.saturating_sub(since) >= GIVE_UP_MS)
    }

    pub(super) fn retain(&mut self, test: impl FnMut(&Bytes) -> bool) {
        self.waiting.retain(test);
    }

    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.blocked = None;
        self.waiting.drain(..).collect()
    }
}
