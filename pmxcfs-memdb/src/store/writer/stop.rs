//! The end of the thread: everything into the database, as far as that can be done in time.

use std::time::{Duration, Instant};

use super::commit::Committer;
use super::queue::ShutdownOutcome;
use crate::store::medium::Checkpoint;

/// How long a shutdown tries to empty the log while another process reads it.
const LAST_CHECKPOINT_TIME: Duration = Duration::from_millis(200);

/// Brings everything into the database and closes it, as far as that can be done in time.
pub(crate) fn finish(committer: &mut Committer, deadline: Instant) -> ShutdownOutcome {
    let drained = committer.drain(deadline);
    committer.handle.close();
    match drained {
        Ok(()) => close_database(committer, deadline),
        Err(error) => give_up(committer, error.to_string()),
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
        let handle = &committer.handle;
        let mut queue = handle.queue.lock();
        while !handle.wake.wait_until(&mut queue, again) {}
    }
    if let Some(backend) = committer.backend.take()
        && let Err(error) = backend.close()
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the database was not closed in good order"
        );
    }
    committer.handle.journal.lock().place().remove();
    if committer.log.size() == 0 {
        ShutdownOutcome::Clean
    } else {
        ShutdownOutcome::LogKept
    }
}

fn give_up(committer: &mut Committer, reason: String) -> ShutdownOutcome {
    committer.backend = None;
    let sequence = committer.handle.queue.lock().sequence;
    if committer.handle.journal.lock().covers(sequence) {
        ShutdownOutcome::JournalKept { reason }
    } else {
        ShutdownOutcome::Lost { reason }
    }
}
