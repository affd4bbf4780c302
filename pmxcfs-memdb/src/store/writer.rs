//! The store's thread: commits batches, keeps SQLite's log small, and deals with a database that cannot be written.
//!
//! | what happens | what the thread does |
//! |---|---|
//! | another process holds the database | tries again for ever; nobody notices, the crash journal takes what comes |
//! | a commit fails otherwise | tries a few times, then the store is failed: changes are refused until a commit works, which is tried every second |
//! | the database file is removed or replaced | goes on, and says so once |
//! | the disk is slow | nobody waits for it but callers of `sync` and of `replace` |

mod replace;
mod stop;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;

use super::backend::{Backend, BackendError, Checkpoint};
use super::batch::Batch;
use super::log_state::LogState;
use super::pacing::{self, GATHER_TIME, LogPacer, TRIES};
use super::queue::{Queue, Replacement, Shared};
use super::schema::FileIdentity;
use super::{EntrySource, ShutdownOutcome, StoreConfig};

/// A batch that has to be tried again.
struct Retry {
    /// When.
    at: Instant,
    /// Errors so far, those of a held database not counted.
    error_count: u32,
    /// Times the database was held.
    busy_count: u32,
}

/// What the thread has to do next.
enum Task {
    Commit,
    Replace(Replacement),
    Tidy,
    Stop(Instant),
}

/// The thread's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    source: Arc<dyn EntrySource>,
    config: StoreConfig,
    identity: FileIdentity,
    journal_paths: Vec<PathBuf>,
    /// Opened when it is needed, and again after an error.
    backend: Option<Box<dyn Backend>>,
    /// Entries of a batch that failed.
    carried: HashSet<u64>,
    retry: Option<Retry>,
    /// The next commit is not made before, unless something is urgent.
    not_before: Option<Instant>,
    log: LogState,
    moved_is_known: bool,
    busy_pacer: LogPacer,
    checkpoint_pacer: LogPacer,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        source: Arc<dyn EntrySource>,
        config: StoreConfig,
        identity: FileIdentity,
        journal_paths: Vec<PathBuf>,
    ) -> Self {
        Self {
            shared,
            source,
            config,
            identity,
            journal_paths,
            backend: None,
            carried: HashSet::new(),
            retry: None,
            not_before: None,
            log: LogState::default(),
            moved_is_known: false,
            busy_pacer: LogPacer::default(),
            checkpoint_pacer: LogPacer::default(),
        }
    }

    /// Body of the thread.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _guard = EndGuard(&shared);
        // Opened early, so that the first commit and the first reader of the database find it ready.
        if let Err(error) = self.backend() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the database cannot be opened yet"
            );
        }
        let stop = loop {
            match self.next_task() {
                Task::Commit => self.commit(),
                Task::Replace(replacement) => self.replace(replacement),
                Task::Tidy => self.tidy(),
                Task::Stop(deadline) => break deadline,
            }
        };
        let outcome = self.finish(stop);
        *shared.outcome.lock() = Some(outcome);
    }

    /// Sleeps until there is something to do.
    fn next_task(&self) -> Task {
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(deadline) = queue.stop {
                return Task::Stop(deadline);
            }
            if let Some(replacement) = queue.replacement.take() {
                return Task::Replace(replacement);
            }
            let now = Instant::now();
            let due = self.due(&queue, now);
            if due.is_some_and(|due| due <= now) {
                return Task::Commit;
            }
            let empty_at = self.log.empty_at().filter(|_| due.is_none());
            if empty_at.is_some_and(|at| at <= now) {
                return Task::Tidy;
            }
            queue.asleep = due.is_none();
            self.sleep(&mut queue, due.or(empty_at));
            queue.asleep = false;
        }
    }

    fn sleep(&self, queue: &mut MutexGuard<'_, Queue>, until: Option<Instant>) {
        match until {
            Some(until) => {
                self.shared.wake.wait_until(queue, until);
            }
            None => self.shared.wake.wait(queue),
        }
    }

    /// Gives back what is only of use while there is something to do.
    fn tidy(&mut self) {
        self.checkpoint(Checkpoint::Truncate);
        self.shared.journal.lock().release();
    }

    fn has_work(&self, queue: &Queue) -> bool {
        self.retry.is_some()
            || queue.unsaved
            || queue.sequence > self.shared.committed()
            || !queue.syncs.is_empty()
    }

    fn due(&self, queue: &Queue, now: Instant) -> Option<Instant> {
        if !self.has_work(queue) {
            return None;
        }
        if let Some(retry) = &self.retry {
            return Some(retry.at);
        }
        if queue.urgent {
            return Some(now);
        }
        let gathered = queue.queued_since.map_or(now, |since| since + GATHER_TIME);
        Some(self.not_before.map_or(gathered, |at| at.max(gathered)))
    }

    /// Commits what is queued, and makes it durable for those who asked.
    fn commit(&mut self) {
        if self.needs_transaction() {
            let carried = std::mem::take(&mut self.carried);
            let batch = Batch::take(&self.shared, &*self.source, carried);
            let started = Instant::now();
            match self.backend().and_then(|backend| batch.write(backend)) {
                Ok(()) => self.committed(&batch, started),
                Err(error) => {
                    self.carried = batch.into_inodes();
                    return self.not_committed(error);
                }
            }
        }
        self.answer_syncs();
    }

    fn needs_transaction(&self) -> bool {
        let queue = self.shared.queue.lock();
        self.retry.is_some() || queue.unsaved || queue.sequence > self.shared.committed()
    }

    fn backend(&mut self) -> Result<&mut dyn Backend, BackendError> {
        if self.backend.is_none() {
            let backend = self.config.medium.open_backend(&self.config.database)?;
            if FileIdentity::of(&self.config.database)? != self.identity {
                return Err(BackendError::Replaced);
            }
            self.backend = Some(backend);
        }
        Ok(self.backend.as_deref_mut().expect("it was opened above"))
    }

    fn committed(&mut self, batch: &Batch, started: Instant) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(started);
        self.shared
            .committed
            .store(batch.sequence, Ordering::Release);
        self.shared
            .journal
            .lock()
            .settle(&self.shared, batch.sequence, batch.root);
        self.count(batch, elapsed);
        self.works_again();
        self.shared.answer_waiters(None);
        self.check_identity();

        let log_size = self
            .backend
            .as_ref()
            .map_or(0, |backend| backend.log_size());
        if self.log.committed(log_size, now) {
            self.checkpoint(Checkpoint::Passive);
        }
        self.shared
            .counters
            .log_size
            .store(self.log.size(), Ordering::Relaxed);
        let stuck_size = self.log.stuck_size();
        self.not_before = Some(now + pacing::commit_interval(batch.content_size, stuck_size));
        self.shared.queue.lock().early_size =
            pacing::early_size(stuck_size, self.config.journal_limit_bytes);
    }

    fn count(&self, batch: &Batch, elapsed: Duration) {
        let counters = &self.shared.counters;
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters
            .rows
            .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
        counters
            .content_size
            .fetch_add(batch.content_size, Ordering::Relaxed);
        counters.last_commit_us.store(micros, Ordering::Relaxed);
        counters
            .last_commit_secs
            .store(wall_clock_secs(), Ordering::Relaxed);
        tracing::trace!(
            version = batch.root.version,
            row_count = batch.rows.len(),
            size_bytes = batch.content_size,
            elapsed_us = micros,
            "committed"
        );
    }

    fn works_again(&mut self) {
        self.retry = None;
        self.shared.counters.busy.store(0, Ordering::Relaxed);
        self.shared.failure.lock().take();
        self.busy_pacer.reset();
        if self.shared.failed.swap(false, Ordering::AcqRel) {
            tracing::info!(
                path = %self.config.database.display(),
                "the database can be written again, nothing was lost; changes are accepted"
            );
            self.tell_watchers(false);
        }
    }

    fn count_failure(&self) {
        let failures = &self.shared.counters.failures;
        failures.fetch_add(1, Ordering::Relaxed);
    }

    fn not_committed(&mut self, error: BackendError) {
        self.count_failure();
        let now = Instant::now();
        let mut retry = self.retry.take().unwrap_or(Retry {
            at: now,
            error_count: 0,
            busy_count: 0,
        });
        if matches!(error, BackendError::Busy(_)) {
            retry.at = now + pacing::busy_delay(retry.busy_count);
            retry.busy_count = retry.busy_count.saturating_add(1);
            let counters = &self.shared.counters;
            counters.busy.store(retry.busy_count, Ordering::Relaxed);
            // Backups and queries hold it for moments all the time.
            if retry.busy_count > TRIES && self.busy_pacer.due(now) {
                tracing::warn!(
                    path = %self.config.database.display(),
                    "another process holds the database; changes wait in the crash journal"
                );
            }
        } else {
            // A connection that met an error may be of no use any more.
            self.backend = None;
            retry.at = now + pacing::error_delay(retry.error_count);
            retry.error_count = retry.error_count.saturating_add(1);
            if retry.error_count >= TRIES {
                self.fail(&error);
            }
        }
        self.retry = Some(retry);
    }

    /// Changes are refused from now on.
    fn fail(&self, error: &BackendError) {
        *self.shared.failure.lock() = Some(with_causes(error));
        if !self.shared.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                error = error as &dyn std::error::Error,
                path = %self.config.database.display(),
                "the database cannot be written: changes are refused until it can; what was accepted is kept in the \
                 crash journal. Make space or repair the disk, and do not delete the run directory"
            );
            self.tell_watchers(true);
        }
        self.shared.answer_waiters(Some(FsError::Io));
        let syncs = std::mem::take(&mut self.shared.queue.lock().syncs);
        for (_, done) in syncs {
            done(Err(FsError::Io));
        }
    }

    fn tell_watchers(&self, failed: bool) {
        for watcher in self.shared.watchers.lock().iter() {
            watcher(failed);
        }
    }

    /// Syncs once for all who wait and whose operations are committed.
    fn answer_syncs(&mut self) {
        let committed = self.shared.committed();
        let due: Vec<_> = {
            let mut queue = self.shared.queue.lock();
            queue
                .syncs
                .extract_if(.., |(sequence, _)| *sequence <= committed)
                .collect()
        };
        if due.is_empty() {
            return;
        }
        let answer = match self.backend().and_then(|backend| backend.sync()) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    path = %self.config.database.display(),
                    "the database cannot be made durable"
                );
                self.backend = None;
                Err(FsError::Io)
            }
        };
        for (_, done) in due {
            done(answer);
        }
    }

    fn checkpoint(&mut self, mode: Checkpoint) {
        let now = Instant::now();
        let Ok(backend) = self.backend() else {
            return self.log.checkpointed(false, 0, now);
        };
        let result = backend.checkpoint(mode);
        let size = backend.log_size();
        if mode == Checkpoint::Truncate {
            backend.release_memory();
        }
        let complete = match result {
            Ok(complete) => complete,
            Err(BackendError::Busy(_)) => false,
            Err(error) => {
                if self.checkpoint_pacer.due(now) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "SQLite's log cannot be moved into the database; it grows until that works"
                    );
                }
                false
            }
        };
        if complete {
            self.shared
                .counters
                .checkpoints
                .fetch_add(1, Ordering::Relaxed);
            self.checkpoint_pacer.reset();
        }
        self.log.checkpointed(complete, size, now);
        self.shared.counters.log_size.store(size, Ordering::Relaxed);
    }

    /// Says once when the database file is not the one that is written to.
    fn check_identity(&mut self) {
        let current = FileIdentity::of(&self.config.database).ok();
        let moved = current != Some(self.identity);
        if moved && !self.moved_is_known {
            tracing::error!(
                path = %self.config.database.display(),
                "the database file was removed or replaced while it is in use: all changes since then will be missing \
                 after the next start. Copy what matters out of the mounted filesystem before stopping this daemon"
            );
        }
        self.moved_is_known = moved;
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Ends everybody's waiting when the thread ends, in whatever way.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's thread died; changes are refused. Restart the daemon");
            *self.0.failure.lock() = Some("the store's thread died".to_owned());
            self.0.failed.store(true, Ordering::Release);
        }
        self.0.close();
        self.0.answer_waiters(Some(FsError::Io));
        self.0
            .outcome
            .lock()
            .get_or_insert_with(|| ShutdownOutcome::JournalKept {
                reason: "the store's thread died".to_owned(),
            });
        self.0.ended.notify_all();
    }
}
