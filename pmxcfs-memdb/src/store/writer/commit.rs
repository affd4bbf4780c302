//! Commits batches, keeps SQLite's log small and on the disk, and deals with a database that cannot be written.
//!
//! | what happens | what the thread does |
//! |---|---|
//! | another process holds the database | retries without end; nobody notices, the crash journal takes what comes |
//! | another program changes rows | warns and counts: memory is the truth, and later commits replace those rows |
//! | a commit fails otherwise | retries a few times, then the store has failed: changes are refused until a retry works, one each second |
//! | the database file is removed or replaced | goes on, and says so once |
//! | the disk is slow | only callers of `sync` and of `replace` wait for it; meanwhile the crash journal takes what comes |

use std::sync::Arc;
use std::time::Instant;

use pmxcfs_api_types::FsError;
use pmxcfs_api_types::time::wall_clock_secs;

use super::batch::{Batch, EntrySource};
use super::log_state::LogState;
use super::pacing::{self, GATHER_TIME, LOOK_INTERVAL, LogPacer, TRIES};
use super::queue::{Queue, Safety, StoreHandle};
use crate::store::config::StoreConfig;
use crate::store::identity::FileIdentity;
use crate::store::medium::{Backend, BackendError, Checkpoint};
use crate::store::scrub::Scrub;
use crate::store::warning::with_causes;

/// The next try after one that failed.
struct Retry {
    at: Instant,
    /// Errors so far, those of a held database not counted.
    error_count: u32,
    /// Times the database was held.
    busy_count: u32,
}

/// A commit, as far as the log and the next one depend on it.
pub(crate) struct Commit {
    at: Instant,
    /// Bytes of content.
    content_size: u64,
    makes_log_large: bool,
}

/// The store's thread's hold of the database.
pub(crate) struct Committer {
    pub(crate) handle: Arc<StoreHandle>,
    source: Arc<dyn EntrySource>,
    config: StoreConfig,
    identity: FileIdentity,
    /// Opened when it is needed, and again after an error.
    pub(crate) backend: Option<Box<dyn Backend>>,
    retry: Option<Retry>,
    /// The next commit is not made before, unless something is urgent.
    not_before: Option<Instant>,
    /// When to look for changes of other programs, if nothing is committed before.
    pub(crate) look_at: Instant,
    pub(crate) log: LogState,
    pub(crate) scrub: Scrub,
    moved_is_known: bool,
    busy_pacer: LogPacer,
    change_pacer: LogPacer,
    checkpoint_pacer: LogPacer,
    sync_pacer: LogPacer,
}

impl Committer {
    pub(crate) fn new(
        handle: Arc<StoreHandle>,
        source: Arc<dyn EntrySource>,
        config: StoreConfig,
        identity: FileIdentity,
    ) -> Self {
        Self {
            handle,
            source,
            config,
            identity,
            backend: None,
            retry: None,
            not_before: None,
            look_at: Instant::now() + LOOK_INTERVAL,
            log: LogState::default(),
            scrub: Scrub::new(Instant::now()),
            moved_is_known: false,
            busy_pacer: LogPacer::default(),
            change_pacer: LogPacer::default(),
            checkpoint_pacer: LogPacer::default(),
            sync_pacer: LogPacer::default(),
        }
    }

    fn has_work(&self, queue: &Queue) -> bool {
        self.needs_transaction(queue) || queue.waits_for(Safety::Durable, u64::MAX)
    }

    fn needs_transaction(&self, queue: &Queue) -> bool {
        self.retry.is_some() || queue.has_uncommitted()
    }

    /// When the next commit is due.
    pub(crate) fn due(&self, queue: &Queue, now: Instant) -> Option<Instant> {
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

    /// Commits what is queued, and makes it durable for callers that wait for that.
    pub(crate) fn commit(&mut self) {
        if let Err(error) = self.try_commit() {
            self.note_failure(&error);
        }
    }

    /// Commits until nothing is queued. Gives up as [`Committer::insist`] does.
    pub(crate) fn drain(&mut self, deadline: Instant) -> Result<(), BackendError> {
        self.insist(deadline, |committer| {
            while committer.has_work(&committer.handle.queue.lock()) {
                committer.try_commit()?;
            }
            Ok(())
        })
    }

    /// Repeats a step until it works. Gives up when the store has failed, or at the deadline, which a shutdown may bring
    /// forward.
    pub(crate) fn insist(
        &mut self,
        mut deadline: Instant,
        mut step: impl FnMut(&mut Self) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        while let Err(error) = step(self) {
            let has_failed = self.note_failure(&error);
            if has_failed || Instant::now() >= deadline {
                return Err(error);
            }
            let retry_at = self.retry.as_ref().map_or(deadline, |retry| retry.at);
            let mut queue = self.handle.queue.lock();
            let (stop, until) = (queue.stop, retry_at.min(deadline));
            while queue.stop == stop && !self.handle.wake.wait_until(&mut queue, until) {}
            deadline = deadline.min(queue.stop.unwrap_or(deadline));
        }
        Ok(())
    }

    fn try_commit(&mut self) -> Result<(), BackendError> {
        if self.needs_transaction(&self.handle.queue.lock()) {
            let batch = self.handle.take(&*self.source);
            let started = Instant::now();
            if let Err(error) = self.write(&batch) {
                self.handle.queue.lock().put_back(batch);
                return Err(error);
            }
            let commit = self.committed(batch, started);
            self.tend_log(&commit);
        }
        let (committed, is_asked) = {
            let queue = self.handle.queue.lock();
            let committed = queue.committed;
            (committed, queue.waits_for(Safety::Durable, committed))
        };
        if is_asked {
            let answer = self.sync();
            self.handle.answer(Safety::Durable, committed, answer);
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), BackendError> {
        self.look()?;
        batch.write(self.backend()?)
    }

    /// As a commit, and on the disk afterwards. After an error the database may have the batch.
    pub(crate) fn write_durably(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let backend = self.backend()?;
        batch.write(backend)?;
        backend.sync()
    }

    /// Warns if another program has changed the database.
    pub(crate) fn look(&mut self) -> Result<(), BackendError> {
        let now = Instant::now();
        self.look_at = now + LOOK_INTERVAL;
        if self.backend()?.was_changed()? {
            self.handle.queue.lock().stats.foreign_change_count += 1;
            if self.change_pacer.due(now) {
                tracing::warn!(
                    path = %self.config.database.display(),
                    "another program has changed the database. The daemon does not read that change, and its own commits \
                     replace what was changed: make changes in the mounted filesystem, or stop the daemon before"
                );
            }
        }
        Ok(())
    }

    pub(crate) fn backend(&mut self) -> Result<&mut dyn Backend, BackendError> {
        if self.backend.is_none() {
            let backend = self.config.medium.open_backend(&self.config.database)?;
            if FileIdentity::of(&self.config.database)? != self.identity {
                return Err(BackendError::Replaced);
            }
            self.backend = Some(backend);
        }
        Ok(self.backend.as_deref_mut().expect("it was opened above"))
    }

    /// Takes note of a batch that is in the database. [`Committer::tend_log`] is to be called next.
    pub(crate) fn committed(&mut self, batch: Batch, started: Instant) -> Commit {
        let now = Instant::now();
        let content_size = batch.content_size();
        let elapsed_us = u64::try_from((now - started).as_micros()).unwrap_or(u64::MAX);
        let operation_count = {
            let mut queue = self.handle.queue.lock();
            let stats = &mut queue.stats;
            stats.commit_count += 1;
            stats.row_count += batch.rows.len() as u64;
            stats.content_bytes += content_size;
            stats.last_commit_us = elapsed_us;
            stats.last_commit_secs = wall_clock_secs();
            batch.sequence - queue.committed
        };
        tracing::trace!(
            version = batch.root.version,
            row_count = batch.rows.len(),
            size_bytes = content_size,
            elapsed_us,
            "committed"
        );
        self.works_again();
        self.handle.committed(batch.sequence);
        self.check_identity();
        let since = batch.since;
        if let Some(sink) = self.handle.sink.get() {
            sink.committed(batch.into_committed());
        }
        let backend = self.backend.as_ref();
        let size = backend.map_or(0, |backend| backend.log_size());
        Commit {
            at: now,
            content_size,
            makes_log_large: self.log.committed(size, operation_count, since, now),
        }
    }

    /// Moves a log that has grown large into the database, which takes its time, and paces the next commit.
    pub(crate) fn tend_log(&mut self, commit: &Commit) {
        if commit.makes_log_large {
            self.checkpoint(Checkpoint::Passive);
        }
        let stuck_size = self.log.stuck_size();
        self.not_before =
            Some(commit.at + pacing::commit_interval(commit.content_size, stuck_size));
        let mut queue = self.handle.queue.lock();
        queue.stats.log_size_bytes = self.log.size();
        queue.early_size = pacing::early_size(stuck_size, self.config.journal_limit_bytes);
    }

    fn works_again(&mut self) {
        self.retry = None;
        self.busy_pacer.reset();
        let failure = {
            let mut queue = self.handle.queue.lock();
            queue.stats.busy_count = 0;
            queue.failure.take()
        };
        if failure.is_some() {
            tracing::info!(
                path = %self.config.database.display(),
                "the database can be written again, nothing was lost; changes are accepted"
            );
            self.tell_watchers(false);
        }
    }

    /// Plans the next try. Returns whether the error has made the store fail.
    fn note_failure(&mut self, error: &BackendError) -> bool {
        self.handle.queue.lock().stats.failed_commit_count += 1;
        let now = Instant::now();
        let mut retry = self.retry.take().unwrap_or(Retry {
            at: now,
            error_count: 0,
            busy_count: 0,
        });
        let is_busy = matches!(error, BackendError::Busy(_));
        if is_busy {
            retry.at = now + pacing::busy_delay(retry.busy_count);
            retry.busy_count = retry.busy_count.saturating_add(1);
            self.handle.queue.lock().stats.busy_count = retry.busy_count;
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
        }
        let has_failed = !is_busy && retry.error_count >= TRIES;
        if has_failed {
            self.fail(error);
        }
        self.retry = Some(retry);
        has_failed
    }

    /// Changes are refused from now on.
    pub(crate) fn fail(&self, error: &BackendError) {
        let failure = with_causes(error);
        let is_new = self.handle.queue.lock().failure.replace(failure).is_none();
        if is_new {
            tracing::error!(
                error = error as &dyn std::error::Error,
                path = %self.config.database.display(),
                "the database cannot be written: changes are refused until it can; what was accepted is kept in the \
                 crash journal. Make space or repair the disk, and do not delete the run directory"
            );
            self.tell_watchers(true);
        }
        self.handle.refuse_waiters();
    }

    fn tell_watchers(&self, failed: bool) {
        for watcher in self.handle.watchers.lock().iter() {
            watcher(failed);
        }
    }

    /// Brings everything committed to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), FsError> {
        let Err(error) = self.backend().and_then(|backend| backend.sync()) else {
            self.log.synced();
            self.sync_pacer.reset();
            return Ok(());
        };
        let now = Instant::now();
        if self.sync_pacer.due(now) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                path = %self.config.database.display(),
                "the database cannot be made durable: a power cut would lose the latest changes. Repair the disk"
            );
        }
        self.log.not_synced(now);
        self.backend = None;
        Err(FsError::Io)
    }

    /// Gives the database's caches back if nothing is to be written.
    pub(crate) fn release_if_idle(&mut self) {
        let is_idle = !self.has_work(&self.handle.queue.lock());
        if let Some(backend) = self.backend.as_mut().filter(|_| is_idle) {
            backend.release_memory();
        }
    }

    /// Compares some more rows with the tree.
    pub(crate) fn scrub(&mut self) {
        if self.retry.is_some() {
            return self.scrub.put_off(Instant::now());
        }
        if let Err(error) = self.backend() {
            tracing::debug!(error = &error as &dyn std::error::Error, "no scrub now");
            return self.scrub.put_off(Instant::now());
        }
        if let Some(backend) = self.backend.as_deref_mut() {
            self.scrub.step(&self.handle, &*self.source, backend);
        }
    }

    pub(crate) fn checkpoint(&mut self, mode: Checkpoint) {
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
        self.log.checkpointed(complete, size, now);
        let mut queue = self.handle.queue.lock();
        queue.stats.log_size_bytes = size;
        if complete {
            queue.stats.checkpoint_count += 1;
            self.checkpoint_pacer.reset();
        }
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
