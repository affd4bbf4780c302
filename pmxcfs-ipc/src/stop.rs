//! The order to stop, as the tasks of a server see it.

use std::sync::OnceLock;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Given once, to all tasks.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    patience_end: OnceLock<Instant>,
    notify: Notify,
}

impl Stop {
    /// Orders the stop. Requests that are being handled have until `patience_end`. A second order changes nothing.
    pub(crate) fn order(&self, patience_end: Instant) {
        let _first = self.patience_end.get_or_init(|| patience_end);
        self.notify.notify_waiters();
    }

    /// Whether the stop has been ordered.
    pub(crate) fn is_ordered(&self) -> bool {
        self.patience_end.get().is_some()
    }

    /// Waits for the order; yields the end of the patience.
    pub(crate) async fn ordered(&self) -> Instant {
        loop {
            // Counts from its creation on, so an order after the look is not missed.
            let notified = self.notify.notified();
            if let Some(end) = self.patience_end.get() {
                return *end;
            }
            notified.await;
        }
    }

    /// Waits for the order, then for the end of the patience.
    pub(crate) async fn patience_over(&self) {
        sleep_until(self.ordered().await).await;
    }
}
