//! A whole tree takes the place of the one in the database, as a sync does.
//!
//! Everything recorded before is committed first, and the crash journal is emptied: none of its records belongs to the
//! new state, and the next start would refuse a journal that knows only former states. Then the new rows are one
//! transaction, which is on the disk before the caller is told. Only after that does the caller show the new tree to
//! anybody, so a failure leaves it where it was.
//!
//! A step that fails may leave open which of the two trees the database has. Then the rows of the former one are queued
//! again, and the journal takes nothing until they are committed.

use std::io;
use std::time::{Duration, Instant};

use pmxcfs_api_types::FsError;

use super::batch::Batch;
use super::commit::Committer;
use super::pacing::{self, TRIES};
use super::queue::Replacement;
use super::stop::drain;
use crate::store::medium::{BackendError, Origin};

/// How long a replacement waits for a process that holds the database: as long as the C daemon does.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// Brings a tree into the database, and answers. After an error the store has failed, so whoever watches it hears when it
/// is worth trying again.
pub(crate) fn replace(committer: &mut Committer, replacement: Replacement) {
    let Replacement {
        rows,
        root,
        trail,
        done,
    } = replacement;
    let now = Instant::now();
    let batch = Batch {
        rows,
        root,
        sequence: committer.shared.queue.lock().sequence,
        origin: Origin::Sync,
        since: now,
        trail,
    };
    let inodes: Vec<u64> = batch.rows.iter().map(|(inode, _)| *inode).collect();
    let answer = match replace_until(committer, batch, now + BUSY_PATIENCE) {
        Ok(()) => Ok(()),
        Err(error) => {
            committer.count_failure();
            {
                // Has the former state written again.
                let mut queue = committer.shared.queue.lock();
                queue.dirty.extend(inodes);
                queue.unsaved = true;
                queue.urgent = true;
            }
            committer.fail(&error);
            Err(FsError::Io)
        }
    };
    done(answer);
}

fn replace_until(
    committer: &mut Committer,
    batch: Batch,
    deadline: Instant,
) -> Result<(), BackendError> {
    let (sequence, root) = (batch.sequence, batch.root);
    drain(committer, deadline).map_err(|reason| BackendError::Io(io::Error::other(reason)))?;
    committer.shared.stop_journal(sequence)?;
    let started = Instant::now();
    write_durably(committer, &batch, deadline)?;
    committer.committed(batch, started);
    committer.log.synced();
    committer.shared.restart_journal(sequence, root);
    Ok(())
}

fn write_durably(
    committer: &mut Committer,
    batch: &Batch,
    deadline: Instant,
) -> Result<(), BackendError> {
    let (mut error_count, mut busy_count) = (0, 0);
    loop {
        let result = committer.backend().and_then(|backend| {
            batch.write(backend)?;
            backend.sync()
        });
        let Err(error) = result else {
            return Ok(());
        };
        let now = Instant::now();
        let delay = if matches!(error, BackendError::Busy(_)) {
            busy_count += 1;
            pacing::busy_delay(busy_count)
        } else {
            // A connection that met an error may be of no use any more.
            committer.backend = None;
            error_count += 1;
            pacing::error_delay(error_count)
        };
        if error_count >= TRIES || now >= deadline || !rest(committer, now + delay) {
            return Err(error);
        }
        committer.count_failure();
    }
}

/// Waits. False if the thread shall end.
fn rest(committer: &Committer, until: Instant) -> bool {
    let shared = &committer.shared;
    let mut queue = shared.queue.lock();
    while queue.stop.is_none() && !shared.wake.wait_until(&mut queue, until) {}
    queue.stop.is_none()
}
