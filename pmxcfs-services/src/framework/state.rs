//! How a service is.

use tokio::time::Instant;

/// State of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceState {
    /// It runs, and does not do its work yet.
    Starting,
    /// It does its work.
    Running {
        /// Since when.
        since: Instant,
    },
    /// It failed and will be run again.
    Waiting {
        /// When.
        until: Instant,
        /// Why it failed.
        error: String,
    },
    /// It has ended because it was told to.
    Stopped,
}

impl ServiceState {
    /// Whether it does its work.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}
