//! How long to stay away before joining again.
//!
//! A member that leaves makes all others exchange states twice, so one that leaves again and again does so ever more
//! rarely. A failed attempt to connect disturbs no other member, so those are more frequent: a node is back soon
//! after its corosync.

/// First delay. Short: corosync takes a new connection at once.
const FIRST_MS: u64 = 100;

/// Longest delay after having left.
const LONGEST_MS: u64 = 30_000;

/// Longest delay while there is no connection.
const LONGEST_UNCONNECTED_MS: u64 = 1_000;

/// A member that was synced for this long starts again with the first delay.
const STABLE_MS: u64 = 60_000;

/// Doubles with every failure that comes soon after the last one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    leaves: u32,
    failed_connections: u32,
}

impl Backoff {
    /// The delay after having left. A member whose node is alone on its side disturbs no other, and is to be back before the others
    /// are: it may have changes that they lack.
    pub(super) fn after_leaving_ms(&mut self, is_alone: bool) -> u64 {
        if is_alone {
            return FIRST_MS;
        }
        let delay_ms = doubled(self.leaves).min(LONGEST_MS);
        self.leaves = self.leaves.saturating_add(1);
        delay_ms
    }

    /// The delay after a connection was lost, or not to be had.
    pub(super) fn after_failed_connection_ms(&mut self) -> u64 {
        let delay_ms = doubled(self.failed_connections).min(LONGEST_UNCONNECTED_MS);
        self.failed_connections = self.failed_connections.saturating_add(1);
        delay_ms
    }

    /// The group was joined.
    pub(super) fn joined(&mut self) {
        self.failed_connections = 0;
    }

    /// The member was synced for a while.
    pub(super) fn was_synced(&mut self, synced_for_ms: u64) {
        if synced_for_ms >= STABLE_MS {
            self.leaves = 0;
        }
    }
}

fn doubled(failures: u32) -> u64 {
    FIRST_MS.saturating_mul(2u64.saturating_pow(failures))
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn delays_double_up_to_a_bound_and_start_again_after_a_stable_time() {
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..10).map(|_| backoff.after_leaving_ms(false)).collect();
        assert_eq!(
            delays,
            [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]
        );
        backoff.was_synced(59_999);
        assert_eq!(backoff.after_leaving_ms(false), 30_000);
        backoff.was_synced(60_000);
        assert_eq!(backoff.after_leaving_ms(false), 100);
    }

    #[test]
    fn a_member_that_disturbs_nobody_is_back_soon_each_time() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            assert_eq!(backoff.after_leaving_ms(true), 100);
        }
        assert_eq!(backoff.after_leaving_ms(false), 100);
        assert_eq!(backoff.after_leaving_ms(true), 100);
        assert_eq!(backoff.after_leaving_ms(false), 200);
    }

    #[test]
    fn a_corosync_that_comes_back_is_noticed_within_a_second_however_long_it_was_gone() {
        let mut backoff = Backoff::default();
        let mut delay_ms = 0;
        for _ in 0..1000 {
            delay_ms = backoff.after_failed_connection_ms();
        }
        assert_eq!(delay_ms, 1000);
        assert_eq!(backoff.after_leaving_ms(false), 100, "nobody was disturbed");
        backoff.joined();
        assert_eq!(backoff.after_failed_connection_ms(), 100);
    }
}
