//! What mutators and the store's thread share.
//!
//! Everything that decides something is under one lock, the queue's. It is never held across a system call. The journal
//! has a lock of its own, which is taken first and held across writes to files in memory: whoever has it writes for all
//! who wait for it. A mutator holds the tree's lock while it records, so the order is: journal, tree, queue.
//!
//! When a record cannot be written (no space, too large), the journal has a gap from there on. It must not go on as if
//! nothing were missing: commits acknowledge operations until a new file starts at the state of a batch, and records in
//! that file count only once that batch is committed ([`Journal::covers`]).

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{io, mem};

use pmxcfs_api_types::FsError;
use pmxcfs_api_types::sync::{Condvar, Mutex, Rank};

use super::pacing::LogPacer;
use super::stats::{ScrubStats, StoreStats};
use super::trail::{CommitSink, Trail};
use crate::store::journal::Journal;
use crate::{Entry, RootState};

/// Called once with the outcome.
pub(crate) type Done = Box<dyn FnOnce(Result<(), FsError>) + Send>;

/// Called with `true` when the store has failed and with `false` when it works again.
pub(crate) type Watcher = Box<dyn Fn(bool) + Send + Sync>;

/// A tree that shall take the place of the one in the database.
pub(crate) struct Replacement {
    /// What differs, by inode in ascending order; `None` is gone.
    pub(crate) rows: Vec<(u64, Option<Entry>)>,
    pub(crate) root: RootState,
    pub(crate) trail: Trail,
    pub(crate) done: Done,
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
    pub(crate) done: Done,
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
    /// What scrubs have done.
    pub(crate) scrub: ScrubStats,

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

/// What a batch takes out of the queue.
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    pub(crate) dirty: HashSet<u64>,
    /// Time of its first operation.
    pub(crate) since: Option<Instant>,
    pub(crate) trail: Trail,
    records: Vec<u8>,
    /// Recording was off and is on again behind the batch.
    resumed: bool,
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

    /// Takes all for a batch. `can_resume` tells that the journal can start a new file behind it.
    pub(crate) fn take(&mut self, can_resume: bool) -> Taken {
        let resumed = can_resume && !self.journaling;
        self.journaling |= resumed;
        self.queued_size = 0;
        self.unsaved = false;
        self.urgent = false;
        Taken {
            sequence: self.sequence,
            dirty: mem::take(&mut self.dirty),
            since: self.queued_since.take(),
            trail: mem::take(&mut self.trail),
            records: mem::take(&mut self.buffer),
            resumed,
        }
    }
}

/// State shared by mutators and the store's thread.
pub(crate) struct Shared {
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
    pub(crate) sink: OnceLock<CommitSink>,
}

impl Shared {
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

    /// Ends the part of the journal that a batch covers, which led to the state `root`: writes the rest of its records,
    /// then lets new ones go to the other file if that is free. The journal is locked since before the batch was taken.
    pub(crate) fn turn(&self, journal: &mut Journal, taken: Taken, root: RootState) {
        self.write(journal, taken.records, taken.sequence);
        if let Err(error) = journal.ensure_linked() {
            // Records that were waiting are lost, so nothing is recorded before the next batch.
            return self.interrupt(journal, &error);
        }
        if journal.other_is_free() {
            self.begin(journal, taken.sequence, root, taken.resumed);
        }
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
            (replacement.done)(Err(FsError::Io));
        }
        self.refuse_waiters();
    }

    /// Makes the thread look at the queue now.
    pub(crate) fn hurry(&self, queue: &mut Queue) {
        queue.urgent = true;
        queue.asleep = false;
        self.wake.notify_one();
    }

    /// Has a caller wait, and the thread hurry.
    pub(crate) fn wait(
        &self,
        queue: &mut Queue,
        safety: Safety,
        sequence: u64,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        queue.waiters.push(Waiter {
            safety,
            sequence,
            done: Box::new(done),
        });
        self.hurry(queue);
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
