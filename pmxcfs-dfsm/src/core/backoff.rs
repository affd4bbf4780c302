//! How long to stay away before joining again.

/// First delay. Short: corosync takes a new connection at once.
const FIRST_MS: u64 = 100;

/// Longest delay.
const LONGEST_MS: u64 = 30_000;

/// A member that was synced for this long starts again with the first delay.
const STABLE_MS: u64 = 60_000;

/// Doubles with every failure that comes soon after the last one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next delay.
    pub(super) fn next_delay_ms(&mut self) -> u64 {
        let factor = 2u64.saturating_pow(self.failures);
        let doubled = FIRST_MS.saturating_mul(factor);
        self.failures = self.failures.saturating_add(1);
        doubled.min(LONGEST_MS)
    }

    /// The member was synced for a while.
    pub(super) fn settle(&mut self, synced_for_ms: u64) {
        if synced_for_ms >= STABLE_MS {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn delays_double_up_to_a_bound_and_start_again_after_a_stable_time() {
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..10).map(|_| backoff.next_delay_ms()).collect();
        assert_eq!(
            delays,
            [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]
        );
        backoff.settle(59_999);
        assert_eq!(backoff.next_delay_ms(), 30_000);
        backoff.settle(60_000);
        assert_eq!(backoff.next_delay_ms(), 100);
    }
}
