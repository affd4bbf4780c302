//! One transaction: the last state of everything touched since the one before.

use std::time::Instant;

use super::trail::{Committed, Trail};
use crate::store::medium::{Backend, BackendError, Origin};
use crate::{Entry, RootState};

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

    /// What a history is told when it is in the database.
    pub(crate) fn into_committed(self) -> Committed {
        let Trail {
            steps,
            former,
            is_incomplete,
            synchronisation,
            ..
        } = self.trail;
        Committed {
            root: self.root,
            steps,
            rows: self.rows,
            former,
            is_incomplete,
            synchronisation,
        }
    }
}
