//! The end of work that threads of a scope accompany.

use std::sync::atomic::{AtomicBool, Ordering};

/// Tells threads of a scope to end. A scope waits for its threads also after a panic, so what tells them must not be a
/// statement that a panic skips.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

/// The work goes on until this is dropped.
#[derive(Debug)]
#[must_use = "the threads end when this is dropped"]
pub struct Work<'a>(&'a Over);

impl Over {
    /// The work has not ended.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Whether the work has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// The work ends when what this returns is dropped, also by a panic.
    pub const fn begin(&self) -> Work<'_> {
        Work(self)
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}
