//! The store as mutators see it.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::pacing::EARLY_COUNT;
use super::queue::{Queue, Replacement, Safety, Shared, ShutdownOutcome};
use super::stats::{ScrubStats, StoreStats};
use super::trail::{Asker, CommitSink, Former, Trail};
use crate::store::journal;
use crate::{Change, Entry, RootState};

/// Stands for an operation that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "an operation is safe only when it is acknowledged"]
pub struct Ticket(u64);

/// Time that ending the thread may take beyond the deadline of a shutdown.
const GRACE: Duration = Duration::from_millis(500);

/// The running store.
pub struct StoreHandle {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl StoreHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Records what an operation did. Call with the tree locked for writing, in the order in which operations are
    /// applied. `root` and `entry` are the state after it. Does no I/O and never waits.
    pub fn record<'e>(
        &self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
    ) -> Ticket {
        let mut queue = self.shared.queue.lock();
        let queue = &mut *queue;
        queue.sequence += 1;
        if queue.journaling {
            let before = queue.buffer.len();
            journal::encode(&mut queue.buffer, queue.sequence, root, changes, entry);
            queue.queued_size += (queue.buffer.len() - before) as u64;
        }
        queue.dirty.extend(changes.iter().map(Change::inode));
        self.wake(queue);
        Ticket(queue.sequence)
    }

    /// Notes the same for the history, if there is one. Call right before or after [`record`](Self::record), under the same
    /// lock of the tree. `former` are contents before the change.
    pub(crate) fn note<'e>(
        &self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
        former: Vec<Former>,
        asker: Option<Asker>,
    ) {
        if self.shared.sink.get().is_some() {
            let mut queue = self.shared.queue.lock();
            queue.trail.add(root, changes, entry, former, asker);
        }
    }

    /// Tells a history of each commit from now on. The first one stays.
    pub(crate) fn tell_history(&self, sink: CommitSink) {
        // The daemon has one history.
        let _first = self.shared.sink.set(sink);
    }

    /// Brings a tree that replaces the present one into the database, as a sync does, and waits until it is on the disk.
    /// `rows` are the entries that differ, by inode in ascending order; `None` is gone. Everything recorded before is
    /// committed first; the rest is one transaction.
    ///
    /// The tree that the store reads must stay the former one, and nothing may be recorded, until this returns. After
    /// `Ok` it has to be the new one before anything else is recorded.
    ///
    /// # Errors
    /// [`FsError::Io`]: the database could not be written or is held by another process. It has, or will have as soon as
    /// it can be written, the former tree; until then [`StoreHandle::is_failed`].
    pub fn replace(&self, rows: Vec<(u64, Option<Entry>)>, root: RootState) -> Result<(), FsError> {
        self.replace_with(rows, root, Trail::default())
    }

    /// The same, with what a history is told of it.
    pub(crate) fn replace_with(
        &self,
        rows: Vec<(u64, Option<Entry>)>,
        root: RootState,
        trail: Trail,
    ) -> Result<(), FsError> {
        let (sender, receiver) = mpsc::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.closed || queue.failure.is_some() || queue.replacement.is_some() {
                return Err(FsError::Io);
            }
            let done = Box::new(move |result| {
                // The receiver waits for as long as the sender lives.
                let _sent = sender.send(result);
            });
            queue.replacement = Some(Replacement {
                rows,
                root,
                trail,
                done,
            });
            queue.asleep = false;
            self.shared.wake.notify_one();
        }
        receiver.recv().unwrap_or(Err(FsError::Io))
    }

    fn wake(&self, queue: &mut Queue) {
        if queue.queued_since.is_none() {
            queue.queued_since = Some(Instant::now());
        }
        if queue.queued_size >= queue.early_size || queue.dirty.len() >= EARLY_COUNT {
            self.shared.hurry(queue);
        } else if queue.asleep {
            queue.asleep = false;
            self.shared.wake.notify_one();
        }
    }

    /// Calls `done` when the operation can no longer be lost by a death of this process: at once if the crash journal
    /// takes it, else when it is in the database. Call without any lock held.
    ///
    /// The error is [`FsError::Io`]: the journal does not have the operation, and the database cannot be written. The
    /// operation stays in memory, and the store goes on trying.
    pub fn acknowledge(
        &self,
        ticket: Ticket,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        if self.shared.flush(ticket.0) {
            return done(Ok(()));
        }
        let answer = {
            let mut queue = self.shared.queue.lock();
            if ticket.0 <= queue.committed {
                Ok(())
            } else if queue.failure.is_some() || queue.closed {
                Err(FsError::Io)
            } else {
                return self
                    .shared
                    .wait(&mut queue, Safety::Committed, ticket.0, done);
            }
        };
        done(answer);
    }

    /// Calls `done` when everything recorded before is in the database and on the disk.
    ///
    /// The error is [`FsError::Io`]: that could not be done.
    pub fn sync(&self, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        {
            let mut queue = self.shared.queue.lock();
            if queue.failure.is_none() && !queue.closed {
                let sequence = queue.sequence;
                return self
                    .shared
                    .wait(&mut queue, Safety::Durable, sequence, done);
            }
        }
        done(Err(FsError::Io));
    }

    /// Whether commits fail, so that changes should be refused. Cheap.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.shared.queue.lock().failure.is_some()
    }

    /// Why changes are refused, for people; `None` while they are not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.queue.lock().failure.clone()
    }

    /// Has `watcher` called from the store's thread with `true` when the store fails and with `false` when it works again.
    pub fn watch(&self, watcher: impl Fn(bool) + Send + Sync + 'static) {
        self.shared.watchers.lock().push(Box::new(watcher));
    }

    /// Counters and queue lengths.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let journal = shared.journal.lock();
        let queue = shared.queue.lock();
        StoreStats {
            journaled_bytes: journal.written_bytes(),
            journal_size_bytes: journal.size(),
            journal_allocated_bytes: journal.allocated(),
            waiter_count: queue.waiters.len(),
            queued_entry_count: queue.dirty.len(),
            queued_operation_count: queue.sequence.saturating_sub(queue.committed),
            ..queue.stats
        }
    }

    /// Has the database compared with the tree now, in the background, see [`ScrubStats`].
    pub fn scrub(&self) {
        let mut queue = self.shared.queue.lock();
        queue.scrub_asked = true;
        self.shared.wake.notify_one();
    }

    /// What scrubs have done.
    #[must_use]
    pub fn scrub_stats(&self) -> ScrubStats {
        self.shared.queue.lock().scrub.clone()
    }

    /// Commits what is queued, closes the database and ends the thread; everybody who waits is answered. Takes little
    /// longer than `deadline`, whatever the disk or other processes do. Nothing is taken any more afterwards.
    pub fn shutdown(&self, deadline: Duration) -> ShutdownOutcome {
        let stop = Instant::now() + deadline;
        let outcome = {
            let mut queue = self.shared.queue.lock();
            queue.stop.get_or_insert(stop);
            queue.asleep = false;
            self.shared.wake.notify_one();
            while queue.outcome.is_none() {
                let ended = &self.shared.ended;
                if ended.wait_until(&mut queue, stop + GRACE) {
                    break;
                }
            }
            queue.closed |= queue.outcome.is_none();
            queue.outcome.clone()
        };
        outcome.unwrap_or_else(|| {
            self.shared.refuse_waiters();
            ShutdownOutcome::Unfinished { deadline }
        })
    }
}
