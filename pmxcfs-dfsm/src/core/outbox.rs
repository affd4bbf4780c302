//! Messages that corosync has not taken yet.
//!
//! Sending must not overtake: while one message waits, all later ones wait behind it. Nothing here blocks the handling of
//! deliveries, and every wait is bounded.

use std::collections::VecDeque;

use bytes::Bytes;

/// How long corosync may refuse one message before it counts as not sent.
const GIVE_UP_MS: u64 = 10_000;

/// Time between attempts. Corosync is ready again after some milliseconds, and takes some of the messages each time.
const RETRY_MS: u64 = 5;

/// Messages waiting for another attempt.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Bytes>,
    blocked: Option<Blocked>,
}

#[derive(Debug, Clone, Copy)]
struct Blocked {
    /// When corosync first refused the message that is first.
    since_ms: u64,
    /// When it refused last.
    last_ms: u64,
    /// How many messages wait since then.
    count: usize,
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
        let count = unsent.len();
        for message in unsent.into_iter().rev() {
            self.waiting.push_front(message);
        }
        // Fewer than were tried: the first one is another one now.
        let former = self.blocked.filter(|former| count >= former.count);
        self.blocked = Some(Blocked {
            since_ms: former.map_or(now_ms, |former| former.since_ms),
            last_ms: now_ms,
            count: self.waiting.len(),
        });
    }

    /// The messages to send now: all that wait, if it is time for another attempt. If nothing waits, the last attempt
    /// went through.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Bytes> {
        match &mut self.blocked {
            _ if self.waiting.is_empty() => {
                self.blocked = None;
                Vec::new()
            }
            Some(blocked) if now_ms.saturating_sub(blocked.last_ms) < RETRY_MS => Vec::new(),
            Some(blocked) => {
                blocked.count = self.waiting.len();
                self.waiting.drain(..).collect()
            }
            None => self.waiting.drain(..).collect(),
        }
    }

    pub(super) fn is_hopeless(&self, now_ms: u64) -> bool {
        self.is_blocked()
            && self
                .blocked
                .is_some_and(|blocked| now_ms.saturating_sub(blocked.since_ms) >= GIVE_UP_MS)
    }

    pub(super) fn retain(&mut self, test: impl FnMut(&Bytes) -> bool) {
        self.waiting.retain(test);
    }

    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.blocked = None;
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Outbox;

    fn messages(count: usize) -> Vec<Bytes> {
        (0..count)
            .map(|number| Bytes::from(number.to_string()))
            .collect()
    }

    #[test]
    fn a_long_queue_that_moves_is_not_given_up() {
        let mut outbox = Outbox::default();
        let mut left = messages(100);
        outbox.put_back(left.clone(), 0);
        for second in 1..100 {
            let now_ms = second * 1000;
            assert!(!outbox.is_hopeless(now_ms), "after {second} s");
            assert_eq!(outbox.due(now_ms), left);
            left.remove(0);
            outbox.put_back(left.clone(), now_ms);
        }
        assert_eq!(left.len(), 1);
        assert!(outbox.is_hopeless(99_000 + 10_000));
    }

    #[test]
    fn what_comes_later_does_not_look_like_progress() {
        let mut outbox = Outbox::default();
        outbox.put_back(messages(1), 0);
        for second in 1..10 {
            outbox.push(Bytes::from_static(b"later"));
            let all = outbox.due(second * 1000);
            outbox.put_back(all, second * 1000);
        }
        assert!(outbox.is_hopeless(10_000));
    }

    #[test]
    fn attempts_are_not_made_all_the_time() {
        let mut outbox = Outbox::default();
        outbox.put_back(messages(2), 10);
        assert!(outbox.due(14).is_empty());
        assert_eq!(outbox.due(15), messages(2));
        assert!(!outbox.is_blocked());
    }
}
