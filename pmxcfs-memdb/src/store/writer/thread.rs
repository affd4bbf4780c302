//! The store's thread.

use std::sync::Arc;
use std::time::Instant;

use super::commit::Committer;
use super::queue::{Replacement, ShutdownOutcome, StoreHandle};
use super::replace::replace;
use super::stop::finish;
use crate::store::medium::Checkpoint;

/// What the thread has to do next.
enum Task {
    Commit,
    Replace(Box<Replacement>),
    Sync,
    Tidy,
    Look,
    Scrub,
    Stop(Instant),
}

/// Body of the thread.
pub(crate) fn run(mut committer: Committer) {
    let handle = Arc::clone(&committer.handle);
    let _guard = EndGuard(&handle);
    // Opened early, so that the first commit and the first reader of the database find it ready.
    if let Err(error) = committer.backend() {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the database cannot be opened yet"
        );
    }
    let deadline = loop {
        match next_task(&mut committer) {
            Task::Commit => committer.commit(),
            Task::Replace(replacement) => replace(&mut committer, *replacement),
            Task::Sync => {
                let _logged = committer.sync();
                committer.release_if_idle();
            }
            Task::Tidy => {
                // Gives back what is only of use while there is something to do.
                committer.checkpoint(Checkpoint::Truncate);
                handle.journal.lock().release();
            }
            Task::Look => {
                // A database that cannot be opened is told of when something has to be committed.
                let _result = committer.look();
                committer.release_if_idle();
            }
            Task::Scrub => committer.scrub(),
            Task::Stop(deadline) => break deadline,
        }
    };
    let outcome = finish(&mut committer, deadline);
    handle.queue.lock().outcome = Some(outcome);
}

/// Sleeps until there is something to do.
fn next_task(committer: &mut Committer) -> Task {
    let handle = Arc::clone(&committer.handle);
    let mut queue = handle.queue.lock();
    loop {
        if let Some(deadline) = queue.stop {
            return Task::Stop(deadline);
        }
        if let Some(replacement) = queue.replacement.take() {
            return Task::Replace(Box::new(replacement));
        }
        let now = Instant::now();
        let sync_at = committer.log.sync_at();
        if sync_at.is_some_and(|at| at <= now) {
            return Task::Sync;
        }
        let due = committer.due(&queue, now);
        if due.is_some_and(|due| due <= now) {
            return Task::Commit;
        }
        let empty_at = committer.log.empty_at().filter(|_| due.is_none());
        if empty_at.is_some_and(|at| at <= now) {
            return Task::Tidy;
        }
        if committer.look_at <= now {
            return Task::Look;
        }
        if std::mem::take(&mut queue.scrub_asked) {
            committer.scrub.ask(now);
        }
        if committer.scrub.due() <= now {
            return Task::Scrub;
        }
        queue.asleep = due.is_none();
        let times = [due, sync_at, empty_at].into_iter().flatten();
        let until = times.fold(committer.look_at.min(committer.scrub.due()), Instant::min);
        handle.wake.wait_until(&mut queue, until);
        queue.asleep = false;
    }
}

/// Ends everybody's waiting when the thread ends, in whatever way.
struct EndGuard<'a>(&'a StoreHandle);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        const REASON: &str = "the store's thread died";
        if std::thread::panicking() {
            tracing::error!("{REASON}; changes are refused. Restart the daemon");
            self.0.queue.lock().failure = Some(REASON.to_owned());
        }
        self.0.close();
        let mut queue = self.0.queue.lock();
        queue
            .outcome
            .get_or_insert_with(|| ShutdownOutcome::JournalKept {
                reason: REASON.to_owned(),
            });
        self.0.ended.notify_all();
    }
}
