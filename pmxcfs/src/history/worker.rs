//! The thread `history`: the only one that writes `history.db`.
//!
//! | what happens | what the thread does |
//! |---|---|
//! | another process holds the file | tries again every second; changes gather |
//! | changes gather beyond the limit | drops what comes then; a gap record and a comparison with the tree follow |
//! | programs make very many changes | waits for a pause, so that it takes no processor from them |
//! | the disk is full or fails | the same, and says so |
//! | the file is broken, or has another version | puts it aside, begins a new one |
//! | the file is gone | begins a new one |
//!
//! The daemon notices none of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use pmxcfs_memdb::store::{Committed, TRAIL_LIMIT_BYTES};
use tokio::sync::oneshot;

use super::recorder::Recorder;
use super::schema::HistoryError;
use super::shared::Subscription;
use super::window::MERGE_TIME;

/// How long changes gather while there are few.
const GATHER: Duration = MERGE_TIME;

/// How many are few. Programs that make more in this time are not disturbed: the thread waits for a pause.
const FEW: usize = 100;

/// The pause that it waits for. Under load there is a commit every 50 ms.
const PAUSE: Duration = Duration::from_millis(250);

/// How long it waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes for which it waits no longer.
const FULL_BYTES: usize = TRAIL_LIMIT_BYTES / 2;

/// Why there is a gap when changes do not fit.
const TOO_FAST: &str = "changes came faster than the history could be written";

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
    /// A commit came that did not fit.
    Lost,
    /// Write down everything so far, then drop the sender.
    Flush(Sender<()>),
    /// Write down everything so far, and tell what comes after it.
    Follow(oneshot::Sender<Subscription>),
    /// Write down everything so far and end, then drop the sender.
    Stop(Sender<()>),
}

/// The thread's state: when it does what.
pub(super) struct Worker {
    recorder: Recorder,
    /// When the first change came that is not written.
    since: Option<Instant>,
    /// When there will have been a pause.
    paused_at: Instant,
    not_before: Option<Instant>,
    tidy_at: Instant,
}

impl Worker {
    pub(super) fn new(recorder: Recorder) -> Self {
        let now = Instant::now();
        Self {
            recorder,
            since: None,
            paused_at: now,
            not_before: None,
            tidy_at: now + TIDY_INTERVAL,
        }
    }

    /// Body of the thread. Returns the sender of whoever waits for its end.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Option<Sender<()>> {
        self.try_write();
        let done = loop {
            let wait = self.due().saturating_duration_since(Instant::now());
            match messages.recv_timeout(wait) {
                Ok(Message::Committed(committed, size)) => {
                    self.changes_come();
                    if let Err(error) = self.recorder.take(committed) {
                        self.failed(&error);
                    }
                    let shared = &self.recorder.shared;
                    shared.taken(size, self.recorder.window.size);
                }
                Ok(Message::Lost) => {
                    self.changes_come();
                    self.recorder.lose(TOO_FAST);
                }
                Ok(Message::Flush(_done)) => self.try_write(),
                Ok(Message::Follow(follower)) => {
                    self.try_write();
                    // Fails if the follower is gone.
                    let _told = follower.send(self.recorder.subscribe());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop(done)) => break Some(done),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if self.due() <= Instant::now() {
                self.try_write();
            }
        };
        self.try_write();
        if let Err(error) = self.recorder.end() {
            self.failed(&error);
        }
        done
    }

    fn changes_come(&mut self) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        self.paused_at = now + PAUSE;
    }

    fn due(&self) -> Instant {
        let (recorder, now) = (&self.recorder, Instant::now());
        let window = &recorder.window;
        let is_full = window.size >= FULL_BYTES && !recorder.is_lost();
        let write_at = match self.since {
            _ if recorder.is_closed() || is_full => now,
            Some(since) => write_at(window.pending.len(), since, self.paused_at),
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
                (self.since, self.not_before) = (None, None);
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
        let now = Instant::now();
        self.since.get_or_insert(now);
        self.not_before = Some(now + pause);
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

/// When so many changes are written that have come since then.
fn write_at(count: usize, since: Instant, paused_at: Instant) -> Instant {
    let gathered_at = since + GATHER;
    if count < FEW {
        return gathered_at;
    }
    paused_at.max(gathered_at).min(since + PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_wait_for_a_pause_and_few_do_not() {
        let since = Instant::now();
        let after = |ms| since + Duration::from_millis(ms);
        // Count, milliseconds until there will have been a pause, until the changes are written.
        for (count, paused_ms, expected_ms) in [
            (1, 250, 2000),
            (FEW - 1, 9000, 2000),
            (FEW, 250, 2000),
            (FEW, 2100, 2100),
            (FEW, 9000, 9000),
            (FEW, 11_000, 10_000),
        ] {
            let at = write_at(count, since, after(paused_ms));
            assert_eq!(at, after(expected_ms), "{count} changes, {paused_ms} ms");
        }
    }
}
