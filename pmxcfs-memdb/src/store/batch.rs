//! One transaction: the last state of everything touched since the one before.

use std::collections::HashSet;
use std::mem;

use super::EntrySource;
use super::backend::{Backend, BackendError, Origin};
use super::queue::Shared;
use crate::{Entry, ROOT_INODE, RootState};

/// The rows of one transaction.
pub(super) struct Batch {
    /// Touched entries by inode; `None` if it is gone.
    pub(super) rows: Vec<(u64, Option<Entry>)>,
    /// State of the tree that the rows belong to.
    pub(super) root: RootState,
    /// Last operation that it contains.
    pub(super) sequence: u64,
    /// Bytes of content.
    pub(super) content_size: u64,
    /// How the tree came to that state.
    pub(super) origin: Origin,
}

impl Batch {
    /// Takes what is queued, and what an earlier batch did not bring into the database. The journal turns to its other
    /// file at the same point of the order of operations.
    pub(super) fn take(shared: &Shared, source: &dyn EntrySource, carried: HashSet<u64>) -> Self {
        let mut journal = shared.journal.lock();
        let mut carried = Some(carried);
        let mut taken = None;
        source.with_entries(&mut |root, entry| {
            let mut dirty = carried.take().expect("the source calls its visitor once");
            let (sequence, resumed) = {
                let mut queue = shared.queue.lock();
                dirty.extend(queue.dirty.drain());
                queue.queued_size = 0;
                queue.queued_since = None;
                queue.unsaved = false;
                queue.urgent = false;
                journal.take_rest(&mut queue.buffer);
                let resumed = !queue.journaling && journal.other_is_free();
                queue.journaling |= resumed;
                (queue.sequence, resumed)
            };
            dirty.remove(&ROOT_INODE);
            let rows = dirty
                .into_iter()
                .map(|inode| (inode, entry(inode)))
                .collect();
            taken = Some((Self::new(rows, root, sequence, Origin::Operations), resumed));
        });
        let (mut batch, resumed) = taken.expect("the source calls its visitor");
        journal.turn(shared, batch.sequence, batch.root, resumed);
        drop(journal);
        batch.rows.sort_unstable_by_key(|(inode, _)| *inode);
        batch
    }

    /// A batch of rows in ascending order of inodes.
    pub(super) fn new(
        rows: Vec<(u64, Option<Entry>)>,
        root: RootState,
        sequence: u64,
        origin: Origin,
    ) -> Self {
        let contents = rows.iter().filter_map(|(_, entry)| entry.as_ref());
        Self {
            content_size: contents.map(|entry| entry.data.len() as u64).sum(),
            rows,
            root,
            sequence,
            origin,
        }
    }

    /// Writes it as one transaction. After an error nothing of it is in the database.
    pub(super) fn write(&self, backend: &mut dyn Backend) -> Result<(), BackendError> {
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
    pub(super) fn into_inodes(mut self) -> HashSet<u64> {
        mem::take(&mut self.rows)
            .into_iter()
            .map(|(inode, _)| inode)
            .collect()
    }
}
