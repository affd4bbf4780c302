//! The thread `history`: the only one that writes `history.db`.
//!
//! | what happens | what the thread does |
//! |---|---|
//! | another process holds the file | tries again every second; changes gather |
//! | changes gather beyond the limit | drops them; a gap record and a comparison with the tree follow |
//! | the disk is full or fails | the same, and says so |
//! | the file is broken, or has another version | puts it aside, begins a new one |
//! | the file is gone | begins a new one |
//!
//! The daemon notices none of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use pmxcfs_memdb::store::Committed;
use tokio::sync::oneshot;

use super::recorder::Recorder;
use super::schema::HistoryError;
use super::shared::Subscription;

/// How long changes gather.
const GATHER: Duration = Duration::from_secs(2);

/// Bytes after which they do not gather any longer.
const GATHER_BYTES: usize = 1 << 20;

/// Pause after a file that is held.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Pause after another failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Time between two looks at what is too old or too much, and at the end of an hour.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// What the thread is told.
pub(super) enum Message {
    /// A commit, and its size.
    Committed(Committed, usize),
    /// Write down everything so far, then drop the sender.
    Flush(Sender<()>),
    /// Write down everything so far, and tell what comes after it.
    Follow(oneshot::Sender<Subscription>),
    /// End.
    Stop,
}

/// The thread's state: when it does what.
pub(super) struct Worker {
    recorder: Recorder,
    not_before: Option<Instant>,
    tidy_at: Instant,
}

impl Worker {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            not_before: None,
            tidy_at: Instant::now() + TIDY_INTERVAL,
        }
    }

    /// Body of the thread.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        self.try_write();
        loop {
            let wait = self.due().saturating_duration_since(Instant::now());
            match messages.recv_timeout(wait) {
                Ok(Message::Committed(committed, size)) => {
                    if let Err(error) = self.recorder.take(committed) {
                        self.failed(&error);
                    }
                    let shared = &self.recorder.shared;
                    shared.taken(size, self.recorder.window.size);
                }
                Ok(Message::Flush(_done)) => self.try_write(),
                Ok(Message::Follow(follower)) => {
                    self.try_write();
                    // Fails if the follower is gone.
                    let _told = follower.send(self.recorder.subscribe());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.due() <= Instant::now() {
                self.try_write();
            }
        }
        self.try_write();
        if let Err(error) = self.recorder.end() {
            self.failed(&error);
        }
    }

    fn due(&self) -> Instant {
        let now = Instant::now();
        let window = &self.recorder.window;
        let write_at = match window.since {
            _ if self.recorder.is_behind() || window.size >= GATHER_BYTES => now,
            Some(since) => since + GATHER,
            None => self.tidy_at,
        };
        let at = write_at.min(self.tidy_at);
        self.not_before.map_or(at, |not_before| at.max(not_before))
    }

    /// Writes what has gathered, unless the last try has failed just now.
    fn try_write(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        let mut written = self.recorder.write();
        if self.tidy_at <= now {
            self.tidy_at = now + TIDY_INTERVAL;
            written = written.and_then(|()| self.recorder.tidy());
        }
        match written {
            Ok(()) => {
                self.not_before = None;
                self.recorder.works();
            }
            Err(error) => self.failed(&error),
        }
        let shared = &self.recorder.shared;
        shared.taken(0, self.recorder.window.size);
    }

    fn failed(&mut self, error: &HistoryError) {
        let pause = if error.is_busy() {
            BUSY_PAUSE
        } else {
            FAILURE_PAUSE
        };
        self.not_before = Some(Instant::now() + pause);
        if error.is_broken() && self.recorder.begin_anew(error) {
            self.not_before = None;
        }
        let shared = &self.recorder.shared;
        if shared.fails(error.to_string(), error.is_busy()) {
            let path = self.recorder.settings.file.display();
            tracing::warn!(%error, "{path} cannot be written: no history until it can; the daemon serves without it");
        }
    }
}
