//! What is queued for the store's thread, and who waits for what.
//!
//! Locks, in the order in which they are taken when several are: the journal, then the tree (read, by the facade), then
//! the queue. The waiters' lock is taken alone. A mutator holds the tree's write lock while it records, which takes the
//! queue's lock only, and that one is never held across a system call.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use pmxcfs_api_types::FsError;

use super::ShutdownOutcome;
use super::journal::Journal;
use super::stats::Counters;
use crate::{Entry, RootState};

/// Called once with the outcome.
pub(super) type Done = Box<dyn FnOnce(Result<(), FsError>) + Send>;

/// Called with `true` when the store has failed and with `false` when it works again.
pub(super) type Watcher = Box<dyn Fn(bool) + Send + Sync>;

/// A tree that shall take the place of the one in the database.
pub(super) struct Replacement {
    /// What differs, by inode in ascending order; `None` is gone.
    pub(super) rows: Vec<(u64, Option<Entry>)>,
    pub(super) root: RootState,
    pub(super) done: Done,
}

/// Operations that are in memory and not yet on their way to the database.
#[derive(Default)]
pub(super) struct Queue {
    /// Encoded redo records that are not yet in the journal.
    pub(super) buffer: Vec<u8>,
    /// Number of the last operation.
    pub(super) sequence: u64,
    /// Entries touched since the last batch was taken.
    pub(super) dirty: HashSet<u64>,
    /// Bytes of redo records since then.
    pub(super) queued_size: u64,
    /// Size of them at which the thread is woken before its time.
    pub(super) early_size: u64,
    /// Time of the first of them.
    pub(super) queued_since: Option<Instant>,
    /// The database differs from memory although nothing was recorded.
    pub(super) unsaved: bool,
    /// Redo records are written. Off while the journal has a gap.
    pub(super) journaling: bool,
    /// Something waits for a commit.
    pub(super) urgent: bool,
    /// The thread sleeps until it is notified.
    pub(super) asleep: bool,
    /// The thread shall end, at that time at the latest.
    pub(super) stop: Option<Instant>,
    /// Who waits for durability, with the operation it must cover.
    pub(super) syncs: Vec<(u64, Done)>,
    /// What comes next after everything recorded.
    pub(super) replacement: Option<Replacement>,
}

/// State shared by mutators and the store's thread.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// Wakes the store's thread; goes with `queue`.
    pub(super) wake: Condvar,
    /// First in the order. Held across writes to the journal's files, which are in memory.
    pub(super) journal: Mutex<Journal>,
    /// Who waits for the commit of which operation.
    pub(super) waiters: Mutex<Vec<(u64, Done)>>,
    /// Number of the last operation that is in the database.
    pub(super) committed: AtomicU64,
    /// Commits fail.
    pub(super) failed: AtomicBool,
    /// Why, for as long as they do. A leaf lock.
    pub(super) failure: Mutex<Option<String>>,
    /// The thread has ended.
    pub(super) closed: AtomicBool,
    /// Who is told about failure and recovery.
    pub(super) watchers: Mutex<Vec<Watcher>>,
    /// Set when the thread has ended.
    pub(super) outcome: Mutex<Option<ShutdownOutcome>>,
    /// Goes with `outcome`.
    pub(super) ended: Condvar,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(queue: Queue, journal: Journal, committed: u64) -> Self {
        Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            journal: Mutex::new(journal),
            waiters: Mutex::default(),
            committed: AtomicU64::new(committed),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            closed: AtomicBool::new(false),
            watchers: Mutex::default(),
            outcome: Mutex::default(),
            ended: Condvar::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing any more: writes what was recorded to the journal, and answers who waits for durability.
    pub(super) fn close(&self) {
        self.journal.lock().flush(self);
        let (syncs, replacement) = {
            let mut queue = self.queue.lock();
            self.closed.store(true, Ordering::Release);
            queue.journaling = false;
            (std::mem::take(&mut queue.syncs), queue.replacement.take())
        };
        if let Some(replacement) = replacement {
            (replacement.done)(Err(FsError::Io));
        }
        for (_, done) in syncs {
            done(Err(FsError::Io));
        }
    }

    /// Makes the thread look at the queue now.
    pub(super) fn hurry(&self) {
        let mut queue = self.queue.lock();
        queue.urgent = true;
        queue.asleep = false;
        self.wake.notify_one();
    }

    /// Answers `done` when the operation is committed, or never can be.
    pub(super) fn wait_for_commit(&self, sequence: u64, done: Done) {
        let mut waiters = self.waiters.lock();
        let answer = if self.committed() >= sequence {
            Ok(())
        } else if self.is_failed() || self.is_closed() {
            Err(FsError::Io)
        } else {
            waiters.push((sequence, done));
            drop(waiters);
            return self.hurry();
        };
        drop(waiters);
        done(answer);
    }

    /// Answers those whose operation is committed by now; with an error, all the others too.
    pub(super) fn answer_waiters(&self, others: Option<FsError>) {
        let committed = self.committed();
        let mut answers = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            let mut rest = Vec::new();
            for (sequence, done) in waiters.drain(..) {
                if sequence <= committed {
                    answers.push((done, Ok(())));
                } else if let Some(error) = others {
                    answers.push((done, Err(error)));
                } else {
                    rest.push((sequence, done));
                }
            }
            *waiters = rest;
        }
        for (done, answer) in answers {
            done(answer);
        }
    }
}
