//! What mutators and the store's thread share.
//!
//! Everything that decides something is under one lock, the queue's. It is never held across a system call. The journal
//! has a lock of its own, which is taken first and held across writes to files in memory: whoever has it writes for all
//! who wait for it. A mutator holds the tree's lock while it records, so the order is: journal, tree, queue.
//!
//! When a record cannot be written (no space, too large), the journal has a gap from there on. It must not go on as if
//! nothing were missing: commits acknowledge operations until a new file starts at the state of a batch, and records in
//! that file count only once that batch is committed ([`Journal::covers`]).

use std::sync::OnceLock;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use std::{io, mem};

use hashbrown::HashSet;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::sync::{Condvar, Mutex, Rank};

use super::batch::{Batch, EntrySource};
use super::pacing::LogPacer;
use super::stats::StoreStats;
use super::trail::{CommitSink, Trail};
use crate::store::journal::Journal;
use crate::store::medium::Origin;
use crate::{ROOT_INODE, RootState};

/// Called with `true` when the store has failed and with `false` when it works again.
pub(crate) type Watcher = Box<dyn Fn(bool) + Send + Sync>;

/// A tree that shall take the place of the one in the database, and its caller.
pub(crate) struct Replacement {
    pub(crate) batch: Batch,
    pub(crate) done: Sender<Result<(), FsError>>,
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// Everything is in the database, and only the database file is left.
    Clean,
    /// Everything is in the database; another process has it open, so SQLite's log stays beside it.
    LogKept,
    /// Not everything could be committed. The crash journal stays, and the next start applies it.
    JournalKept {
        /// Why.
        reason: String,
    },
    /// Not everything could be committed, and the crash journal does not have it either.
    Lost {
        /// Why.
        reason: String,
    },
    /// The disk did not answer within the deadline. The crash journal stays.
    Unfinished {
        /// The deadline.
        deadline: Duration,
    },
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// A commit.
    Committed,
    /// A commit that is on the disk.
    Durable,
}

/// A caller that waits for the safety of an operation.
pub(crate) struct Waiter {
    pub(crate) safety: Safety,
    pub(crate) sequence: u64,
    /// Called once with the outcome.
    pub(crate) done: Box<dyn FnOnce(Result<(), FsError>) + Send>,
}

/// What was done in memory, how far that has come, and what the thread is asked to do.
#[derive(Default)]
pub(crate) struct Queue {
    /// Encoded records that are not yet in the journal.
    pub(crate) buffer: Vec<u8>,
    /// Number of the last operation.
    pub(crate) sequence: u64,
    /// Entries touched since the last batch was taken.
    pub(crate) dirty: HashSet<u64>,
    /// Bytes of records since then.
    pub(crate) queued_size: u64,
    /// Size of them at which the thread is woken before its time.
    pub(crate) early_size: u64,
    /// Time of the first of them.
    pub(crate) queued_since: Option<Instant>,
    /// What a history is told of them.
    pub(crate) trail: Trail,
    /// The database differs from memory although nothing was recorded.
    pub(crate) unsaved: bool,

    /// Records are written. Off while the journal has a gap.
    pub(crate) journaling: bool,
    /// Last operation in the database.
    pub(crate) committed: u64,
    pub(crate) waiters: Vec<Waiter>,

    /// Something waits for a commit.
    pub(crate) urgent: bool,
    /// The thread sleeps until it is notified.
    pub(crate) asleep: bool,
    /// What comes next after everything recorded.
    pub(crate) replacement: Option<Replacement>,
    /// Shutdown deadline.
    pub(crate) stop: Option<Instant>,

    /// Somebody asks for a scrub.
    pub(crate) scrub_asked: bool,

    /// Why commits fail, for as long as they do.
    pub(crate) failure: Option<String>,
    /// Nothing is taken any more.
    pub(crate) closed: bool,
    /// Set when the thread has ended.
    pub(crate) outcome: Option<ShutdownOutcome>,
    /// Counters; lengths of queues are filled in when somebody asks.
    pub(crate) stats: StoreStats,
    /// Lets the journal's warnings through.
    pub(crate) journal_pacer: LogPacer,
}

impl Queue {
    /// Whether the database lacks something.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.unsaved || self.sequence > self.committed
    }

    /// Whether a caller waits for this safety of an operation up to this one.
    pub(crate) fn waits_for(&self, safety: Safety, last: u64) -> bool {
        let mut waiters = self.waiters.iter();
        waiters.any(|waiter| waiter.safety == safety && waiter.sequence <= last)
    }

    /// Has the next batch write the rows of one that did not get into the database, and tell the history of it.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.dirty
            .extend(batch.rows.iter().map(|(inode, _)| *inode));
        let since = self.queued_since.get_or_insert(batch.since);
        *since = batch.since.min(*since);
        let later = mem::replace(&mut self.trail, batch.trail);
        self.trail.extend(later);
        self.unsaved = true;
    }
}

/// The running store: what mutators and its thread share.
pub struct StoreHandle {
    pub(crate) queue: Mutex<Queue>,
    /// Wakes the store's thread; goes with `queue`.
    pub(crate) wake: Condvar,
    /// Tells that the thread has ended; goes with `queue`.
    pub(crate) ended: Condvar,
    /// Before the tree and the queue in the lock order.
    pub(crate) journal: Mutex<Journal>,
    /// Called when the store fails and when it works again.
    pub(crate) watchers: Mutex<Vec<Watcher>>,
    /// Is told of each commit. Nothing is noted for it before it is there.
    pub(crate) sink: OnceLock<Box<dyn CommitSink>>,
}

impl StoreHandle {
    pub(crate) fn new(queue: Queue, journal: Journal) -> Self {
        Self {
            queue: Mutex::new(Rank::StoreQueue, queue),
            wake: Condvar::new(),
            ended: Condvar::new(),
            journal: Mutex::new(Rank::StoreJournal, journal),
            watchers: Mutex::new(Rank::StoreWatchers, Vec::new()),
            sink: OnceLock::new(),
        }
    }

    /// Has this operation survive the death of the process, and everything else recorded so far, unless the journal has a
    /// gap. False if only a commit can do that.
    pub(crate) fn flush(&self, wanted: u64) -> bool {
        let mut journal = self.journal.lock();
        if !journal.covers(wanted) {
            let spare = journal.take_spare();
            let (records, sequence) = {
                let mut queue = self.queue.lock();
                (mem::replace(&mut queue.buffer, spare), queue.sequence)
            };
            self.write(&mut journal, records, sequence);
        }
        journal.covers(wanted)
    }

    /// Writes records up to this operation.
    fn write(&self, journal: &mut Journal, records: Vec<u8>, sequence: u64) {
        if !records.is_empty()
            && let Err(error) = journal.append(records, sequence)
        {
            self.interrupt(journal, &error);
        }
    }

    /// The journal has a gap from here on.
    fn interrupt(&self, journal: &mut Journal, error: &io::Error) {
        // A record that was written in part is recognised anyway; this makes room.
        journal.release();
        let is_due = {
            let mut queue = self.queue.lock();
            queue.journaling = false;
            queue.buffer = Vec::new();
            queue.journal_pacer.due(Instant::now())
        };
        if is_due {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the crash journal cannot be written; changes are acknowledged when they are in the database. Make \
                 space in the run directory"
            );
        }
    }

    /// Takes what is queued for a batch. The journal ends the part that the batch covers at the same point of the order of
    /// operations: new records go to the other file, if that is free.
    pub(crate) fn take(&self, source: &dyn EntrySource) -> Batch {
        let mut journal = self.journal.lock();
        let can_resume = journal.other_is_free();
        let mut taken = None;
        source.with_entries(&mut |root, entry| {
            let mut queue = self.queue.lock();
            let is_resumed = can_resume && !queue.journaling;
            queue.journaling |= is_resumed;
            queue.queued_size = 0;
            queue.unsaved = false;
            queue.urgent = false;
            let mut dirty = mem::take(&mut queue.dirty);
            let mut batch = Batch {
                rows: Vec::new(),
                root,
                sequence: queue.sequence,
                origin: Origin::Operations,
                since: queue.queued_since.take().unwrap_or_else(Instant::now),
                trail: mem::take(&mut queue.trail),
            };
            let records = mem::take(&mut queue.buffer);
            drop(queue);
            dirty.remove(&ROOT_INODE);
            let rows = dirty.into_iter().map(|inode| (inode, entry(inode)));
            batch.rows = rows.collect();
            taken = Some((batch, records, is_resumed));
        });
        let (mut batch, records, is_resumed) = taken.expect("the source calls its visitor");
        self.write(&mut journal, records, batch.sequence);
        if let Err(error) = journal.ensure_linked() {
            // Records that were waiting are lost, so nothing is recorded before the next batch.
            self.interrupt(&mut journal, &error);
        } else if journal.other_is_free() {
            self.begin(&mut journal, batch.sequence, batch.root, is_resumed);
        }
        drop(journal);
        batch.rows.sort_unstable_by_key(|(inode, _)| *inode);
        batch
    }

    fn begin(&self, journal: &mut Journal, sequence: u64, root: RootState, is_resumed: bool) {
        match journal.turn(sequence, root, is_resumed) {
            Ok(()) if is_resumed => self.queue.lock().journaling = true,
            Ok(()) => {}
            Err(error) => self.interrupt(journal, &error),
        }
    }

    /// Empties the journal, whose records lead to no state that the database will have, and stops recording.
    ///
    /// # Errors
    /// The journal cannot be emptied, or something was recorded behind the operation `sequence`.
    pub(crate) fn stop_journal(&self, sequence: u64) -> io::Result<()> {
        let mut journal = self.journal.lock();
        {
            let mut queue = self.queue.lock();
            if queue.sequence != sequence {
                return Err(io::Error::other(
                    "the tree was changed while it was being replaced",
                ));
            }
            queue.journaling = false;
        }
        journal.empty()
    }

    /// Starts the journal anew behind the operation `sequence`, which is in the database and led to the state `root`.
    pub(crate) fn restart_journal(&self, sequence: u64, root: RootState) {
        let mut journal = self.journal.lock();
        if journal.other_is_free() {
            self.begin(&mut journal, sequence, root, true);
        }
    }

    /// The database has everything up to this operation: frees what the journal does not need any more, and answers.
    pub(crate) fn committed(&self, sequence: u64) {
        {
            let mut journal = self.journal.lock();
            let mut queue = self.queue.lock();
            queue.committed = sequence;
            if queue.journaling {
                queue.journal_pacer.reset();
            }
            drop(queue);
            journal.committed(sequence);
        }
        self.answer(Safety::Committed, sequence, Ok(()));
    }

    /// Takes nothing any more: writes what was recorded to the journal, and answers everybody.
    pub(crate) fn close(&self) {
        self.flush(u64::MAX);
        let replacement = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.journaling = false;
            queue.replacement.take()
        };
        if let Some(replacement) = replacement {
            // The caller waits for as long as this lives.
            let _told = replacement.done.send(Err(FsError::Io));
        }
        self.refuse_waiters();
    }

    /// Makes the thread look at the queue.
    pub(crate) fn rouse(&self, queue: &mut Queue) {
        queue.asleep = false;
        self.wake.notify_one();
    }

    /// Makes the thread commit now.
    pub(crate) fn hurry(&self, queue: &mut Queue) {
        queue.urgent = true;
        self.rouse(queue);
    }

    /// Has a caller wait for the safety of an operation, or of all if there is none of this number yet.
    pub(crate) fn wait(
        &self,
        safety: Safety,
        sequence: u64,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let answer = {
            let mut queue = self.queue.lock();
            let sequence = sequence.min(queue.sequence);
            if safety == Safety::Committed && sequence <= queue.committed {
                Ok(())
            } else if queue.failure.is_some() || queue.closed {
                Err(FsError::Io)
            } else {
                let done = Box::new(done);
                queue.waiters.push(Waiter {
                    safety,
                    sequence,
                    done,
                });
                return self.hurry(&mut queue);
            }
        };
        done(answer);
    }

    /// Answers callers that wait for this safety of operations up to this one.
    pub(crate) fn answer(&self, safety: Safety, last: u64, answer: Result<(), FsError>) {
        self.answer_if(answer, |waiter| {
            waiter.safety == safety && waiter.sequence <= last
        });
    }

    /// Answers all callers that wait with an error.
    pub(crate) fn refuse_waiters(&self) {
        self.answer_if(Err(FsError::Io), |_| true);
    }

    fn answer_if(&self, answer: Result<(), FsError>, is_meant: impl FnMut(&mut Waiter) -> bool) {
        let mut queue = self.queue.lock();
        let answered: Vec<Waiter> = queue.waiters.extract_if(.., is_meant).collect();
        drop(queue);
        for waiter in answered {
            (waiter.done)(answer);
        }
    }
}
