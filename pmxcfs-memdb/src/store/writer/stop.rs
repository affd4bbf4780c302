//! The end of the thread: everything into the database, as far as that can be done in time.

use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::super::ShutdownOutcome;
use super::super::backend::Checkpoint;
use super::super::pacing::TRIES;
use super::Writer;

/// How long a shutdown tries to empty the log while another process reads it.
const LAST_CHECKPOINT_TIME: Duration = Duration::from_millis(200);

impl Writer {
    /// Brings everything into the database and closes it, as far as that can be done in time.
    pub(super) fn finish(&mut self, deadline: Instant) -> ShutdownOutcome {
        let drained = self.drain(deadline);
        self.shared.close();
        let outcome = match drained {
            Ok(()) => self.close_database(deadline),
            Err(reason) => self.give_up(reason),
        };
        self.shared.answer_waiters(Some(FsError::Io));
        outcome
    }

    /// Commits all there is.
    pub(super) fn drain(&mut self, mut deadline: Instant) -> Result<(), String> {
        let mut errors = self
            .retry
            .as_ref()
            .map_or(0, |retry| retry.error_count)
            .min(TRIES - 1);
        loop {
            if !self.has_work(&self.shared.queue.lock()) {
                return Ok(());
            }
            self.commit();
            let Some(retry) = &self.retry else {
                continue;
            };
            let held = retry.error_count <= errors;
            errors = retry.error_count;
            if errors >= TRIES && !held {
                return Err("the database cannot be written".to_owned());
            }
            if Instant::now() >= deadline {
                return Err("another process holds the database".to_owned());
            }
            let until = retry.at.min(deadline);
            let mut queue = self.shared.queue.lock();
            let stop = queue.stop;
            while queue.stop == stop && !self.shared.wake.wait_until(&mut queue, until).timed_out()
            {
            }
            deadline = deadline.min(queue.stop.unwrap_or(deadline));
        }
    }

    fn close_database(&mut self, deadline: Instant) -> ShutdownOutcome {
        let deadline = deadline.min(Instant::now() + LAST_CHECKPOINT_TIME);
        loop {
            self.checkpoint(Checkpoint::Truncate);
            let again = Instant::now() + Duration::from_millis(10);
            if self.log.size() == 0 || again >= deadline {
                break;
            }
            let mut queue = self.shared.queue.lock();
            while !self.shared.wake.wait_until(&mut queue, again).timed_out() {}
        }
        if let Some(backend) = self.backend.take()
            && let Err(error) = backend.close()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database was not closed in good order"
            );
        }
        for path in &self.journal_paths {
            // What is left is older than the database, and the next start knows.
            let _result = self.config.medium.remove_segment(path);
        }
        if self.log.size() == 0 {
            ShutdownOutcome::Clean
        } else {
            ShutdownOutcome::LogKept
        }
    }

    fn give_up(&mut self, reason: String) -> ShutdownOutcome {
        self.backend = None;
        let journal = self.shared.journal.lock();
        let last = self.shared.queue.lock().sequence;
        if journal.covers(last, self.shared.committed()) {
            ShutdownOutcome::JournalKept { reason }
        } else {
            ShutdownOutcome::Lost { reason }
        }
    }
}
