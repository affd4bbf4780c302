//! How long to wait before a service is tried again.

use std::time::Duration;

/// The first pause. Corosync that was restarted is back within a moment.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause. The C daemon tries every 6 s; a node is to be back soon after its corosync, and trying costs next to nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// A service that worked for this long has recovered.
const STABLE: Duration = Duration::from_secs(10);

/// A failure that lasts is repeated in the log after 1, 2, 4, ... times this many attempts.
const FIRST_REMINDER: u32 = 64;

/// Pauses that double, up to a bound, and the choice of failures to log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

/// The consequence of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// How long to wait.
    pub(super) pause: Duration,
    /// Whether to tell people: the first of a row of failures, and rarely after that.
    pub(super) is_told: bool,
}

impl Backoff {
    /// A run has ended. `worked_for` is how long it did its work, `None` if it did not get that far.
    pub(super) fn failed(&mut self, worked_for: Option<Duration>) -> Retry {
        if worked_for.is_some_and(|time| time >= STABLE) {
            self.failures = 0;
        }
        let factor = 2u32.saturating_pow(self.failures);
        let pause = FIRST.saturating_mul(factor).min(LONGEST);
        let is_told = self.failures == 0
            || (self.failures >= FIRST_REMINDER && self.failures.is_power_of_two());
        self.failures = self.failures.saturating_add(1);
        Retry { pause, is_told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9)
            .map(|_| backoff.failed(None).pause.as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000]);
    }

    #[test]
    fn a_service_that_worked_for_a_while_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed(None);
        }
        let soon = backoff.failed(Some(Duration::from_secs(9)));
        assert_eq!(soon.pause, Duration::from_secs(1));
        let retry = backoff.failed(Some(Duration::from_secs(10)));
        assert_eq!(retry.pause, Duration::from_millis(100));
        assert!(retry.is_told, "a new row of failures");
    }

    #[test]
    fn a_lasting_failure_is_told_once_and_then_rarely() {
        let mut backoff = Backoff::default();
        let told: Vec<u32> = (0..1000).filter(|_| backoff.failed(None).is_told).collect();
        assert_eq!(told, [0, 64, 128, 256, 512]);
    }
}
