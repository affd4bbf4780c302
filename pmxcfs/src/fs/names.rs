//! Names that the kernel knows: what a node id stands for.
//!
//! The kernel looks a name up, gets a node id, and uses it for a while. A node id stands for the *name*, as with a daemon that
//! turns every request into a path: it leads to whatever has that path now. What it leads to is remembered until that entry
//! is renamed or removed, or another tree takes the place of the whole. Nothing else can lead a name elsewhere, since
//! a directory that has entries is neither renamed nor removed.
//!
//! A record is *displaced* when its name has been removed, or is found to lead to something else than the id was given out for.
//! It keeps its path: requests for it may be under way. While it is open, it stands for what is open.

use std::collections::BTreeSet;

use pmxcfs_api_types::sync::{Mutex, MutexGuard, Rank};
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Change, EntryKind, Tree};
use smallvec::SmallVec;

use super::handles::Bound;
use super::tables::NameRecords;
use super::ways::{Moved, Place, Ways};

/// Who has changed the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangedBy {
    /// A request of this mount's kernel.
    Kernel,
    /// Another node.
    Others,
}

/// The names that the kernel knows.
#[derive(Debug)]
pub(super) struct NameTable {
    /// Taken while the tree is locked.
    table: Mutex<Ways>,
}

impl NameTable {
    /// The names of these records, and the root, as the version of the database has them that was loaded. To be completed by what
    /// is [open](Self::reopen).
    pub(super) fn new(records: NameRecords, loaded_version: u64) -> Self {
        let table = Ways::new(records, loaded_version);
        Self {
            table: Mutex::new(Rank::FsNames, table),
        }
    }

    /// What a former process has opened by a node id is open now, too.
    pub(super) fn reopen(&self, id: u64, bound: Bound) {
        self.table.lock().note_open(id, bound);
    }

    /// Drops the records that a former process was about to drop. Call when everything open is open again.
    pub(super) fn drop_all_unused(&self) {
        let mut table = self.table.lock();
        for slot in table.index.records().all() {
            let id = table.index.records().id(slot);
            // Dropping another one may have dropped this.
            if table.index.slot(id) == Some(slot) {
                table.drop_unused(id);
            }
        }
    }

    /// The node ids that the kernel may know.
    pub(super) fn known_ids(&self) -> Vec<u64> {
        let table = self.table.lock();
        let records = table.index.records();
        records.all().map(|slot| records.id(slot)).collect()
    }

    /// The table, as it is for this tree.
    pub(super) fn of(&self, tree: &Tree) -> MutexGuard<'_, Ways> {
        let mut table = self.table.lock();
        if table.epoch != tree.epoch() {
            table.epoch = tree.epoch();
            table.forget_all_ways();
        }
        table
    }

    /// Looks a name up for the kernel, which will know it by the node id that this gives, with the inode.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, or no such directory; `NoMemory` if the kernel knows too many.
    pub(super) fn look_up(&self, tree: &Tree, parent: u64, name: &[u8]) -> Result<(u64, u64)> {
        let mut table = self.of(tree);
        let directory = table.resolve(tree, parent).ok_or(FsError::NotFound)?;
        let Some(entry) = tree.child(directory, name) else {
            if let Some(slot) = table.index.current(parent, name) {
                table.displace(slot);
            }
            return Err(FsError::NotFound);
        };
        let slot = table.give(parent, name, entry).ok_or(FsError::NoMemory)?;
        Ok((table.index.records().id(slot), entry.inode))
    }

    /// The same for a name that a request has just made, or met, if an entry of this kind has it.
    pub(super) fn made(&self, tree: &Tree, place: &Place, kind: EntryKind) -> Option<(u64, u64)> {
        let mut table = self.of(tree);
        let directory = table.resolve(tree, place.parent)?;
        let entry = tree.child(directory, &place.name)?;
        if entry.kind != kind {
            return None;
        }
        let slot = table.give(place.parent, &place.name, entry)?;
        table.end_second_walk(slot);
        Some((table.index.records().id(slot), entry.inode))
    }

    /// The kernel takes back `count` replies that named an id.
    pub(super) fn forget(&self, id: u64, count: u64) {
        let mut table = self.table.lock();
        if let Some(slot) = table.index.slot(id) {
            let records = table.index.records();
            records.set_lookups(slot, records.lookups(slot).saturating_sub(count));
            table.drop_unused(id);
        }
    }

    /// Opens for a user what a node id leads to.
    ///
    /// # Errors
    /// As [`Ways::target`].
    pub(super) fn open(&self, tree: &mut Tree, id: u64, inode: u64, uid: u32) -> Result<Bound> {
        let mut table = self.of(tree);
        if table.index.slot(id).is_none() || !tree.pin(inode, uid) {
            return Err(FsError::NotFound);
        }
        let bound = Bound::new(tree, inode);
        table.note_open(id, bound);
        Ok(bound)
    }

    pub(super) fn closed(&self, id: u64) {
        let mut table = self.table.lock();
        let Some(slot) = table.index.slot(id) else {
            return;
        };
        let opens = &mut table.way_mut(slot).opens;
        if let Some(mut former) = opens.take() {
            former.count -= 1;
            if former.count > 0 {
                *opens = Some(former);
            } else {
                table.relate(id, Some(former.last.inode), None);
                table.drop_unused(id);
            }
        }
    }

    /// The tree has changed: records of entries that were renamed or removed look for what they lead to again. Call before the
    /// tree is unlocked, since a request after that may lead them elsewhere. Gives the records by which the kernel shows
    /// what it cannot know to have changed: of a change that it has asked for, those of entries that have several.
    pub(super) fn changed(&self, changes: &[Change], by: ChangedBy) -> Vec<u64> {
        let mut table = self.table.lock();
        let mut shown = Vec::new();
        for change in changes {
            let is_content = matches!(change, Change::Content { .. });
            if by == ChangedBy::Kernel && is_content && !table.has_others(change.inode()) {
                continue;
            }
            let ids: SmallVec<[u64; 4]> = table.ids_of(change.inode()).collect();
            if !is_content {
                for id in &ids {
                    table.lead_id(*id, None);
                }
            }
            if by == ChangedBy::Others || ids.len() > 1 {
                shown.extend(ids);
            }
        }
        shown
    }

    /// A name was removed through this mount.
    pub(super) fn removed(&self, place: &Place) {
        let mut table = self.table.lock();
        if let Some(slot) = table.index.current(place.parent, &place.name) {
            table.displace(slot);
        }
    }

    /// A name was changed through this mount: the kernel moves what it has. That may be a displaced record, if it has looked
    /// the old name up meanwhile, so all records of the old name move. A later process finds them where they were until the change is
    /// [settled](Self::settle).
    pub(super) fn renamed(&self, tree: &Tree, from: &Place, to: &Place) -> Moved {
        if from == to {
            return Moved::default();
        }
        self.removed(to);
        let version = tree.root().version;
        self.table.lock().move_name(from, to, version)
    }

    /// The crash journal has the change that has moved names.
    pub(super) fn settle(&self, moved: Moved) {
        let mut table = self.table.lock();
        for slot in moved.0 {
            let parent = table.index.records().parent(slot);
            table.index.records_mut().remove(slot);
            table.leave_directory(parent);
        }
    }

    /// Node ids by which the kernel may show entries.
    pub(super) fn ids_of(&self, inodes: &BTreeSet<u64>) -> Vec<u64> {
        let table = self.table.lock();
        inodes.iter().flat_map(|it| table.ids_of(*it)).collect()
    }
}
