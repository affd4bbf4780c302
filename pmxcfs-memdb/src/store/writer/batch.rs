//! One transaction: the last state of everything touched since the one before.

use std::collections::HashSet;
use std::time::Instant;

use super::queue::Shared;
use super::trail::{Committed, Trail};
use crate::store::medium::{Backend, BackendError, Origin};
use crate::{Entry, ROOT_INODE, RootState};

/// Finds an entry by its inode.
pub type EntryLookup<'a> = &'a dyn Fn(u64) -> Option<Entry>;

/// The tree, as the store's thread reads it.
pub trait EntrySource: Send + Sync + 'static {
    /// Calls `visit` once, with the root state and a lookup by inode, while nobody can change the tree. `visit` is short
    /// and does no I/O.
    fn with_entries(&self, visit: &mut dyn FnMut(RootState, EntryLookup<'_>));

    /// The next inodes above this one in ascending order, the root's left out: at most `count` of them.
    fn inodes_above(&self, inode: u64, count: usize) -> Vec<u64>;

    /// Whether the database may have another tree already that takes the place of this one. The answer holds for as long
    /// as the entries are visited.
    fn is_being_replaced(&self) -> bool {
        false
    }
}

/// The rows of one transaction.
pub(crate) struct Batch {
    /// Touched entries in ascending order of inodes; `None` if it is gone.
    pub(crate) rows: Vec<(u64, Option<Entry>)>,
    /// State of the tree that the rows belong to.
    pub(crate) root: RootState,
    /// Last operation that it contains.
    pub(crate) sequence: u64,
    /// How the tree came to that state.
    pub(crate) origin: Origin,
    /// Time of its first operation.
    pub(crate) since: Instant,
    /// What a history is told of it.
    pub(crate) trail: Trail,
}

impl Batch {
    /// Takes what is queued, and what an earlier batch did not bring into the database. The journal turns to its other
    /// file at the same point of the order of operations.
    pub(crate) fn take(
        shared: &Shared,
        source: &dyn EntrySource,
        mut inodes: HashSet<u64>,
        mut trail: Trail,
    ) -> Self {
        let mut journal = shared.journal.lock();
        let can_resume = journal.other_is_free();
        let mut visited = None;
        source.with_entries(&mut |root, entry| {
            let taken = shared.queue.lock().take(can_resume);
            inodes.extend(&taken.dirty);
            inodes.remove(&ROOT_INODE);
            let rows = inodes.iter().map(|inode| (*inode, entry(*inode)));
            visited = Some((rows.collect::<Vec<_>>(), root, taken));
        });
        let (mut rows, root, mut taken) = visited.expect("the source calls its visitor");
        trail.extend(std::mem::take(&mut taken.trail));
        let sequence = taken.sequence;
        let since = taken.since.unwrap_or_else(Instant::now);
        shared.turn(&mut journal, taken, root);
        drop(journal);
        rows.sort_unstable_by_key(|(inode, _)| *inode);
        Self {
            rows,
            root,
            sequence,
            origin: Origin::Operations,
            since,
            trail,
        }
    }

    /// Bytes of content.
    pub(crate) fn content_size(&self) -> u64 {
        let entries = self.rows.iter().filter_map(|(_, entry)| entry.as_ref());
        entries.map(|entry| entry.data.len() as u64).sum()
    }

    /// Writes it as one transaction. After an error nothing of it is in the database.
    pub(crate) fn write(&self, backend: &mut dyn Backend) -> Result<(), BackendError> {
        let result = self.write_rows(backend);
        if result.is_err() {
            backend.rollback();
        }
        result
    }

    fn write_rows(&self, backend: &mut dyn Backend) -> Result<(), BackendError> {
        backend.begin()?;
        for (inode, entry) in &self.rows {
            match entry {
                Some(entry) => backend.put(entry)?,
                None => backend.delete(*inode)?,
            }
        }
        backend.put_root(self.root, self.origin)?;
        backend.commit()
    }

    /// What has to be in the next batch if this one failed.
    pub(crate) fn into_carried(self) -> (HashSet<u64>, Trail) {
        let inodes = self.rows.into_iter().map(|(inode, _)| inode);
        (inodes.collect(), self.trail)
    }

    /// What a history is told when it is in the database.
    pub(crate) fn into_committed(self) -> Committed {
        let Trail {
            steps,
            former,
            is_incomplete,
            leader,
            ..
        } = self.trail;
        Committed {
            root: self.root,
            steps,
            rows: self.rows,
            former,
            is_incomplete,
            leader,
        }
    }
}
