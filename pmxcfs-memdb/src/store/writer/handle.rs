//! The store as mutators see it.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::batch::Batch;
use super::pacing::EARLY_COUNT;
use super::queue::{Replacement, Safety, ShutdownOutcome, StoreHandle};
use super::stats::StoreStats;
use super::trail::{CommitSink, Former, Synchronisation, Trail};
use crate::store::journal;
use crate::store::medium::Origin;
use crate::{Change, Entry, RootState};

/// Stands for an operation that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "an operation is safe only when it is acknowledged"]
pub struct Ticket(u64);

/// Time that ending the thread may take beyond the deadline of a shutdown.
const GRACE: Duration = Duration::from_millis(500);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl StoreHandle {
    /// Records what an operation did. Call with the tree locked for writing, in the order in which operations are
    /// applied. `root` and `entry` are the state after it. Does no I/O and never waits.
    pub fn record<'e>(
        &self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
    ) -> Ticket {
        self.record_with(root, changes, entry, |_trail| ())
    }

    /// The same. If a history wants it, `note` notes for it what the operation did.
    pub(crate) fn record_with<'e>(
        &self,
        root: RootState,
        changes: &[Change],
        entry: &dyn Fn(u64) -> Option<&'e Entry>,
        note: impl FnOnce(&mut Trail),
    ) -> Ticket {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        if self.sink.get().is_some_and(|sink| sink.is_wanted()) {
            note(&mut queue.trail);
        }
        queue.sequence += 1;
        if queue.journaling {
            let before = queue.buffer.len();
            journal::encode(&mut queue.buffer, queue.sequence, root, changes, entry);
            queue.queued_size += (queue.buffer.len() - before) as u64;
        }
        queue.dirty.extend(changes.iter().map(Change::inode));
        queue.queued_since.get_or_insert_with(Instant::now);
        if queue.queued_size >= queue.early_size || queue.dirty.len() >= EARLY_COUNT {
            self.hurry(queue);
        } else if queue.asleep {
            self.rouse(queue);
        }
        Ticket(queue.sequence)
    }

    /// Tells a history of each commit from now on. The first one stays.
    pub(crate) fn tell_history(&self, sink: Box<dyn CommitSink>) {
        // The daemon has one history.
        let _first = self.sink.set(sink);
    }

    /// Brings the tree of a sync's leader into the database, in place of the present one, and waits until it is on the disk.
    /// `former` are contents of before, for a history. Everything recorded before is committed first; the rest is one
    /// transaction.
    ///
    /// The tree that the store reads must stay the former one, and nothing may be recorded, until this returns. After
    /// `Ok` it has to be the new one before anything else is recorded.
    ///
    /// # Errors
    /// [`FsError::Io`]: the database could not be written or is held by another process. It has, or will have as soon as
    /// it can be written, the former tree; until then [`StoreHandle::is_failed`].
    pub fn replace(
        &self,
        root: RootState,
        synchronisation: Synchronisation,
        former: Vec<Former>,
    ) -> Result<(), FsError> {
        let (sender, receiver) = mpsc::channel();
        let rows = synchronisation.entries.iter().map(|(inode, entry)| {
            let entry = entry.as_ref().map(|(_path, entry)| entry.clone());
            (*inode, entry)
        });
        let rows = rows.collect();
        {
            let mut queue = self.queue.lock();
            if queue.closed || queue.failure.is_some() || queue.replacement.is_some() {
                return Err(FsError::Io);
            }
            queue.replacement = Some(Replacement {
                batch: Batch {
                    rows,
                    root,
                    sequence: queue.sequence,
                    origin: Origin::Sync,
                    since: Instant::now(),
                    trail: Trail::of_sync(synchronisation, former),
                },
                done: sender,
            });
            self.rouse(&mut queue);
        }
        receiver.recv().unwrap_or(Err(FsError::Io))
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
        if self.flush(ticket.0) {
            return done(Ok(()));
        }
        self.wait(Safety::Committed, ticket.0, done);
    }

    /// Calls `done` when everything recorded before is in the database and on the disk.
    ///
    /// The error is [`FsError::Io`]: that could not be done.
    pub fn sync(&self, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        self.wait(Safety::Durable, u64::MAX, done);
    }

    /// Whether commits fail, so that changes should be refused. Cheap.
    pub fn is_failed(&self) -> bool {
        self.queue.lock().failure.is_some()
    }

    /// Has `watcher` called from the store's thread with `true` when the store fails and with `false` when it works again.
    pub fn watch(&self, watcher: impl Fn(bool) + Send + Sync + 'static) {
        self.watchers.lock().push(Box::new(watcher));
    }

    /// Counters and queue lengths.
    pub fn stats(&self) -> StoreStats {
        let journal = self.journal.lock();
        let queue = self.queue.lock();
        StoreStats {
            is_failed: queue.failure.is_some(),
            failure: queue.failure.clone(),
            journaled_bytes: journal.written_bytes(),
            journal_size_bytes: journal.size(),
            journal_allocated_bytes: journal.allocated(),
            waiter_count: queue.waiters.len() as u64,
            queued_entry_count: queue.dirty.len() as u64,
            queued_operation_count: queue.sequence.saturating_sub(queue.committed),
            ..queue.stats.clone()
        }
    }

    /// Has the database compared with the tree now, in the background, see [`StoreStats::scrub`].
    pub fn scrub(&self) {
        let mut queue = self.queue.lock();
        queue.scrub_asked = true;
        self.rouse(&mut queue);
    }

    /// Commits what is queued, closes the database and ends the thread; everybody who waits is answered. Takes little
    /// longer than `deadline`, whatever the disk or other processes do. Nothing is taken any more afterwards.
    pub fn shutdown(&self, deadline: Duration) -> ShutdownOutcome {
        let stop = Instant::now() + deadline;
        let outcome = {
            let mut queue = self.queue.lock();
            queue.stop.get_or_insert(stop);
            self.rouse(&mut queue);
            while queue.outcome.is_none() {
                let ended = &self.ended;
                if ended.wait_until(&mut queue, stop + GRACE) {
                    break;
                }
            }
            queue.closed |= queue.outcome.is_none();
            queue.outcome.clone()
        };
        outcome.unwrap_or_else(|| {
            self.refuse_waiters();
            ShutdownOutcome::Unfinished { deadline }
        })
    }
}
