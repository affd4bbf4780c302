//! A whole tree takes the place of the one in the database, as a sync does.
//!
//! Everything recorded before is committed first, and the crash journal is emptied: none of its records belongs to the
//! new state, and the next start would refuse a journal that knows only former states. Then the new rows are one
//! transaction, which is on the disk before the caller is told. Only after that does the caller show the new tree to
//! anybody, so a failure leaves it where it was.
//!
//! A step that fails may leave open which of the two trees the database has. Then the rows of the former one are queued
//! again, and the journal takes nothing until they are committed.

use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::batch::Batch;
use super::commit::Committer;
use super::queue::Replacement;
use super::trail::Trail;
use crate::store::medium::BackendError;

/// How long a replacement waits for a process that holds the database: as long as the C daemon does.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// Brings a tree into the database, and answers before it moves the log. After an error the store has failed, so its watchers
/// hear when it is worth trying again.
pub(crate) fn replace(committer: &mut Committer, replacement: Replacement) {
    let Replacement { mut batch, done } = replacement;
    let (sequence, root) = (batch.sequence, batch.root);
    let answer = move |result| {
        // The caller waits for as long as the sender lives.
        let _told = done.send(result);
    };
    match write(committer, &batch, batch.since + BUSY_PATIENCE) {
        Ok(started) => {
            let commit = committer.committed(batch, started);
            committer.log.synced();
            committer.handle.restart_journal(sequence, root);
            answer(Ok(()));
            committer.tend_log(&commit);
        }
        Err(error) => {
            {
                // Has the former state written again.
                batch.trail = Trail::default();
                let mut queue = committer.handle.queue.lock();
                queue.put_back(batch);
                queue.urgent = true;
            }
            committer.fail(&error);
            answer(Err(FsError::Io));
        }
    }
}

/// Writes the batch, when everything before it is committed. Returns when it began with that.
fn write(
    committer: &mut Committer,
    batch: &Batch,
    deadline: Instant,
) -> Result<Instant, BackendError> {
    committer.drain(deadline)?;
    committer.handle.stop_journal(batch.sequence)?;
    let started = Instant::now();
    committer.insist(deadline, |committer| committer.write_durably(batch))?;
    Ok(started)
}
