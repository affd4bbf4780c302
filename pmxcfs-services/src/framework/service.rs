//! A service and its state.

use tokio::sync::watch;
use tokio::time::Instant;

/// Why a service ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Something that is to run all the time.
pub trait Service: Send + 'static {
    /// Its name for operators.
    fn name(&self) -> &'static str;

    /// Runs until it fails or [`Context::stopped`]. To call [`Context::ready`] once it does its work.
    ///
    /// # Errors
    /// Why it cannot go on. It is run again.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Result<(), Failure>> + Send;
}

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
        /// Why it failed.
        error: String,
    },
    /// It has ended because it was told to.
    Stopped,
}

impl ServiceState {
    /// Whether it does its work.
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// A running service's line to its manager.
#[derive(Debug)]
pub struct Context {
    pub(super) state: watch::Sender<ServiceState>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Context {
    /// The service does its work from now on.
    pub fn ready(&self) {
        self.state.send_if_modified(|state| {
            let is_change = !state.is_running();
            if is_change {
                *state = ServiceState::Running {
                    since: Instant::now(),
                };
            }
            is_change
        });
    }

    /// Waits until the service is to stop.
    pub async fn stopped(&mut self) {
        // A manager that is gone cannot tell any more: that means the same.
        let _told = self.stop.wait_for(|stop| *stop).await;
    }
}
