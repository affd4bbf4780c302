//! The end of the thread: everything into the database, as far as that can be done in time.

use std::time::{Duration, Instant};

use super::commit::Committer;
use super::pacing::TRIES;
use super::queue::ShutdownOutcome;
use crate::store::medium::Checkpoint;

/// How long a shutdown tries to empty the log while another process reads it.
const LAST_CHECKPOINT_TIME: Duration = Duration::from_millis(200);

/// Brings everything into the database and closes it, as far as that can be done in time.
pub(crate) fn finish(committer: &mut Committer, deadline: Instant) -> ShutdownOutcome {
    let drained = drain(committer, deadline);
    committer.shared.close();
    match drained {
        Ok(()) => close_database(committer, deadline),
        Err(reason) => give_up(committer, reason),
    }
}

/// Commits all there is.
pub(crate) fn drain(committer: &mut Committer, mut deadline: Instant) -> Result<(), String> {
    let error_count = committer
        .retry
        .as_ref()
        .map_or(0, |retry| retry.error_count);
    let mut errors = error_count.min(TRIES - 1);
    loop {
        if !committer.has_work(&committer.shared.queue.lock()) {
            return Ok(());
        }
        committer.commit();
        let Some(retry) = &committer.retry else {
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
        let shared = &committer.shared;
        let mut queue = shared.queue.lock();
        let stop = queue.stop;
        while queue.stop == stop && !shared.wake.wait_until(&mut queue, until) {}
        deadline = deadline.min(queue.stop.unwrap_or(deadline));
    }
}

fn close_database(committer: &mut Committer, deadline: Instant) -> ShutdownOutcome {
    let deadline = deadline.min(Instant::now() + LAST_CHECKPOINT_TIME);
    loop {
        committer.checkpoint(Checkpoint::Truncate);
        let again = Instant::now() + Duration::from_millis(10);
        if committer.log.size() == 0 || again >= deadline {
            break;
        }
        let shared = &committer.shared;
        let mut queue = shared.queue.lock();
        while !shared.wake.wait_until(&mut queue, again) {}
    }
    if let Some(backend) = committer.backend.take()
        && let Err(error) = backend.close()
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the database was not closed in good order"
        );
    }
    committer.shared.journal.lock().place().remove();
    if committer.log.size() == 0 {
        ShutdownOutcome::Clean
    } else {
        ShutdownOutcome::LogKept
    }
}

fn give_up(committer: &mut Committer, reason: String) -> ShutdownOutcome {
    committer.backend = None;
    let sequence = committer.shared.queue.lock().sequence;
    if committer.shared.journal.lock().covers(sequence) {
        ShutdownOutcome::JournalKept { reason }
    } else {
        ShutdownOutcome::Lost { reason }
    }
}
