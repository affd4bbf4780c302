//! A whole tree takes the place of the one in the database, as a sync does.
//!
//! Everything recorded before is committed first, and the crash journal is emptied: none of its records belongs to the
//! new state, and the next start would refuse a journal that knows only former states. Then the new rows are one
//! transaction, which is on the disk before the caller is told. Only after that does the caller show the new tree to
//! anybody, so a failure leaves it where it was.
//!
//! A step that fails may leave open which of the two trees the database has. Then the rows of the former one are queued
//! again, and the journal takes nothing until they are committed.

use std::io;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::super::backend::{BackendError, Origin};
use super::super::batch::Batch;
use super::super::pacing::{self, TRIES};
use super::super::queue::Replacement;
use super::Writer;

/// How long a replacement waits for a process that holds the database: as long as the C daemon does.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

impl Writer {
    /// Brings a tree into the database, and answers. After an error the store has failed, so whoever watches it hears
    /// when it is worth trying again.
    pub(super) fn replace(&mut self, replacement: Replacement) {
        let Replacement { rows, root, done } = replacement;
        let sequence = self.shared.queue.lock().sequence;
        let batch = Batch::new(rows, root, sequence, Origin::Sync);
        let deadline = Instant::now() + BUSY_PATIENCE;
        let answer = match self.replace_until(&batch, deadline) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.count_failure();
                self.keep_former(batch);
                self.fail(&error);
                Err(FsError::Io)
            }
        };
        done(answer);
    }

    fn replace_until(&mut self, batch: &Batch, deadline: Instant) -> Result<(), BackendError> {
        self.drain(deadline)
            .map_err(|reason| BackendError::Io(io::Error::other(reason)))?;
        self.stop_journal(batch.sequence)?;
        let started = Instant::now();
        self.write_durably(batch, deadline)?;
        self.committed(batch, started);
        Ok(())
    }

    /// Empties the journal: whatever state the database has next, no record leads to it.
    fn stop_journal(&self, sequence: u64) -> io::Result<()> {
        let mut journal = self.shared.journal.lock();
        {
            let mut queue = self.shared.queue.lock();
            if queue.sequence != sequence {
                return Err(io::Error::other(
                    "the tree was changed while it was being replaced",
                ));
            }
            queue.journaling = false;
        }
        journal.empty()
    }

    fn write_durably(&mut self, batch: &Batch, deadline: Instant) -> Result<(), BackendError> {
        let (mut error_count, mut busy_count) = (0, 0);
        loop {
            let result = self.backend().and_then(|backend| {
                batch.write(backend)?;
                backend.sync()
            });
            let Err(error) = result else {
                return Ok(());
            };
            let now = Instant::now();
            let delay = if matches!(error, BackendError::Busy(_)) {
                busy_count += 1;
                pacing::busy_delay(busy_count)
            } else {
                // A connection that met an error may be of no use any more.
                self.backend = None;
                error_count += 1;
                pacing::error_delay(error_count)
            };
            if error_count >= TRIES || now >= deadline || !self.rest(now + delay) {
                return Err(error);
            }
            self.count_failure();
        }
    }

    /// Waits. False if the thread shall end.
    fn rest(&self, until: Instant) -> bool {
        let mut queue = self.shared.queue.lock();
        while queue.stop.is_none() && !self.shared.wake.wait_until(&mut queue, until).timed_out() {}
        queue.stop.is_none()
    }

    /// Has the former state written again.
    fn keep_former(&self, batch: Batch) {
        let mut queue = self.shared.queue.lock();
        queue.dirty.extend(batch.into_inodes());
        queue.unsaved = true;
        queue.urgent = true;
    }
}
