//! Life of things that connect, fail and must be tried again.
//!
//! A [`Service`] runs until it fails or is told to stop. The [`Manager`] starts it again after a growing pause, says so once and
//! then rarely, stops services in the reverse order of their start, and can be asked how each one is.

mod backoff;
mod manager;
mod state;

pub use manager::{Context, Manager};
pub use state::ServiceState;

/// Why a service ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Something that is to run all the time.
pub trait Service: Send + 'static {
    /// What people call it.
    const NAME: &'static str;

    /// Runs until it fails or [`Context::stopped`]. To call [`Context::ready`] once it does its work.
    ///
    /// # Errors
    /// Why it cannot go on. It is run again.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Result<(), Failure>> + Send;
}
