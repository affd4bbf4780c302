//! An end for what hangs.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Does something when its time is over, unless it is dropped before.
#[derive(Debug)]
pub(crate) struct Watchdog {
    extensions: mpsc::Sender<Duration>,
}

impl Watchdog {
    /// One that calls `act` after `limit`, on a thread of its own.
    pub(crate) fn new(limit: Duration, act: impl FnOnce() + Send + 'static) -> Self {
        let (extensions, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut deadline = Instant::now() + limit;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match receiver.recv_timeout(left) {
                    Ok(extension) => deadline += extension,
                    Err(RecvTimeoutError::Timeout) => return act(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { extensions }
    }

    /// Gives more time.
    pub(crate) fn extend(&self, extension: Duration) {
        // Fails when the time is over: then it has acted.
        let _sent = self.extensions.send(extension);
    }
}
