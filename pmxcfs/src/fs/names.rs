//! Names that the kernel knows: what a node id stands for.
//!
//! The kernel looks a name up, gets a node id, and uses it for a while. A node id stands for the *name*, as with a daemon that
//! turns every request into a path: it leads to whatever has that path now. What it leads to is remembered until that entry
//! is renamed or removed, or another tree takes the place of the whole. Nothing else can lead a name elsewhere, since
//! a directory that has entries is neither renamed nor removed.
//!
//! A record is *displaced* when its name has been removed, or is found to lead to something else than the id was given out for.
//! It keeps its path: requests for it may be under way. While it is open, it stands for what is open.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::sync::{Mutex, MutexGuard, Rank};
use pmxcfs_memdb::{Change, Entry, EntryKind, ROOT_INODE, Tree};
use smallvec::SmallVec;

use super::handles::Bound;
use super::name_index::NameIndex;
use super::node::{ROOT_ID, drawn_id, is_plain, natural_id};
use super::second_walks::SecondWalks;
use super::tables::{NameRecords, NewName};

/// What a request without a handle wants of a node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// To see attributes. The kernel comes by a path or by an open file and does not tell. It asks before it opens what may have
    /// changed, also for an open with `O_CREAT`.
    Attributes,
    /// To set attributes, at the end of a path. The program gets the truth at once if nothing has the path.
    Change,
    /// To open it. The kernel comes by a path, or by a link in /proc.
    Open,
}

/// Who has changed the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangedBy {
    /// A request of this mount's kernel.
    Kernel,
    /// Another node.
    Others,
}

/// A name in a directory, for which a node id of the directory stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: u64,
    pub(super) name: Bytes,
}

/// Records of names where they were before a change of this mount.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Moved(Vec<u32>);

/// The names that the kernel knows.
#[derive(Debug)]
pub(super) struct NameTable {
    /// Taken while the tree is locked.
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// What outlives the process.
    index: NameIndex,
    /// What is known of a record beside, by its slot.
    ways: Vec<Way>,
    /// By node id.
    opens: HashMap<u64, Opens>,
    /// Node ids that lead to, or are open at, an inode that is not their number.
    others: HashMap<u64, Vec<u64>>,
    /// Of the tree whose names these are.
    epoch: u64,
    /// Not in the records: the kernel may forget them in the middle of a walk.
    second_walks: SecondWalks,
}

#[derive(Debug, Default)]
struct Way {
    /// Inode that has the name, if that is known.
    leads_to: Option<u64>,
    /// Records of names in this directory. They keep this one alive.
    child_count: u32,
    /// `ESTALE` was answered, and the kernel has not looked the name up since.
    is_told: bool,
}

#[derive(Debug)]
struct Opens {
    count: u64,
    /// What the last open was of.
    last: Bound,
}

impl NameTable {
    /// The names of these records, and the root, as the version of the database has them that was loaded. To be completed by what
    /// is [open](Self::reopen).
    pub(super) fn new(records: NameRecords, loaded_version: u64) -> Self {
        let mut table = Table {
            index: NameIndex::new(records, loaded_version),
            ways: Vec::new(),
            opens: HashMap::new(),
            others: HashMap::new(),
            epoch: 0,
            second_walks: SecondWalks::default(),
        };
        if table.index.slot(ROOT_ID).is_none() {
            let root = NewName {
                id: ROOT_ID,
                parent: ROOT_ID,
                name: &[],
                kind: EntryKind::Directory,
                origin: ROOT_INODE,
            };
            let slot = table.index.add(&root);
            slot.expect("an empty table has room for one record");
        }
        for slot in table.index.records().all() {
            table.way_mut(slot);
            if let Some(parent) = table.directory_of(slot) {
                table.way_mut(parent).child_count += 1;
            }
        }
        if let Some(root) = table.index.slot(ROOT_ID) {
            table.way_mut(root).leads_to = Some(ROOT_INODE);
        }
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
    fn of(&self, tree: &Tree) -> MutexGuard<'_, Table> {
        let mut table = self.table.lock();
        if table.epoch != tree.epoch() {
            table.epoch = tree.epoch();
            table.forget_all_ways();
        }
        table
    }

    /// What has the path of a record now.
    pub(super) fn resolve(&self, tree: &Tree, id: u64) -> Option<u64> {
        self.of(tree).resolve(tree, id)
    }

    /// What a request without a handle is about: what has the path of the record, or what is open by it.
    ///
    /// # Errors
    /// `NotFound` if there is nothing, and `Stale` the first time if that may not be the truth: the kernel walks the path once
    /// more then, and looks each name up. It does so only once, and not for a working directory.
    pub(super) fn target(&self, tree: &Tree, id: u64, want: Want) -> Result<u64, FsError> {
        self.of(tree).target(tree, id, want)
    }

    /// Looks a name up for the kernel, which will know it by the node id that this gives, with the inode.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, or no such directory; `NoMemory` if the kernel knows too many.
    pub(super) fn look_up(
        &self,
        tree: &Tree,
        parent: u64,
        name: &[u8],
    ) -> Result<(u64, u64), FsError> {
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
    /// As [`NameTable::target`].
    pub(super) fn open(
        &self,
        tree: &mut Tree,
        id: u64,
        inode: u64,
        uid: u32,
    ) -> Result<Bound, FsError> {
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
        let Some(opens) = table.opens.get_mut(&id) else {
            return;
        };
        opens.count -= 1;
        if opens.count == 0 {
            let former = opens.last.inode;
            table.opens.remove(&id);
            table.relate(id, Some(former), None);
            table.drop_unused(id);
        }
    }

    /// The tree has changed: records of entries that were renamed or removed look for what they lead to again. Call before the
    /// tree is unlocked, since a request after that may lead them elsewhere. Gives the records by which the kernel shows
    /// what it cannot know to have changed: of a change that it has asked for, those of entries that have several.
    pub(super) fn changed(&self, changes: &[Change], by: ChangedBy) -> Vec<u64> {
        let mut table = self.table.lock();
        let mut shown = Vec::new();
        for change in changes {
            let ids: Vec<u64> = table.ids_of(change.inode()).collect();
            if !matches!(change, Change::Content { .. }) {
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
            table.index.settle(slot);
            table.leave_directory(parent);
        }
    }

    /// Node ids by which the kernel may show entries.
    pub(super) fn ids_of(&self, inodes: &[u64]) -> Vec<u64> {
        let table = self.table.lock();
        inodes.iter().flat_map(|it| table.ids_of(*it)).collect()
    }

    /// How many records there are.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the tests and a fuzz target ask")
    )]
    pub(super) fn len(&self) -> usize {
        self.table.lock().index.len()
    }
}

impl Table {
    fn way(&self, slot: u32) -> &Way {
        &self.ways[slot as usize]
    }

    fn way_mut(&mut self, slot: u32) -> &mut Way {
        let at = slot as usize;
        if at >= self.ways.len() {
            self.ways.resize_with(at + 1, Way::default);
        }
        &mut self.ways[at]
    }

    /// The record of the directory of a name, `None` for the root.
    fn directory_of(&self, slot: u32) -> Option<u32> {
        let records = self.index.records();
        match records.id(slot) {
            ROOT_ID => None,
            _ => self.index.slot(records.parent(slot)),
        }
    }

    fn resolve(&mut self, tree: &Tree, id: u64) -> Option<u64> {
        let mut unknown = SmallVec::<[u32; 8]>::new();
        let mut at = self.index.slot(id)?;
        let mut inode = loop {
            if let Some(inode) = self.way(at).leads_to {
                break inode;
            }
            unknown.push(at);
            at = self.directory_of(at)?;
        };
        while let Some(at) = unknown.pop() {
            let records = self.index.records();
            let entry = tree.child(inode, &records.name(at));
            inode = entry.filter(|it| it.kind == records.kind(at))?.inode;
            self.lead(at, Some(inode));
        }
        Some(inode)
    }

    /// Whether a walk of the kernel may come to a record: neither it nor a directory above is displaced.
    fn is_reachable(&self, id: u64) -> bool {
        let mut at = self.index.slot(id);
        while let Some(slot) = at {
            if !self.index.records().is_current(slot) {
                return false;
            }
            if self.index.records().id(slot) == ROOT_ID {
                return true;
            }
            at = self.directory_of(slot);
        }
        false
    }

    fn target(&mut self, tree: &Tree, id: u64, want: Want) -> Result<u64, FsError> {
        let slot = self.index.slot(id).ok_or(FsError::NotFound)?;
        let (held, is_told) = (self.held(tree, id), self.way(slot).is_told);
        if self.index.records().kind(slot) == EntryKind::File
            && let Some(inode) = held
            && !self.is_reachable(id)
        {
            return Ok(inode);
        }
        // A directory stands for its path even if it is open, as with a daemon that knows nothing but paths.
        if let Some(inode) = self.resolve(tree, id) {
            self.way_mut(slot).is_told = false;
            if want == Want::Open {
                self.end_second_walk(slot);
            }
            return Ok(inode);
        }
        let path = self.path(slot);
        match (held, want) {
            (Some(inode), Want::Attributes | Want::Change) => Ok(inode),
            (None, Want::Open) => Err(FsError::NotFound),
            (Some(inode), Want::Open) if is_told || self.second_walks.may_come_to(&path) => {
                Ok(inode)
            }
            (None, _) if is_told || self.is_final(tree, slot, want, &path) => {
                Err(FsError::NotFound)
            }
            _ => {
                self.way_mut(slot).is_told = true;
                self.second_walks.begin(path);
                Err(FsError::Stale)
            }
        }
    }

    /// Whether a request has to be told that nothing has its path: that is so, and the request may belong to a second walk or
    /// does not need one.
    fn is_final(&mut self, tree: &Tree, slot: u32, want: Want, path: &[Bytes]) -> bool {
        if want != Want::Change && !self.second_walks.may_come_to(path) {
            return false;
        }
        let directory = self.resolve(tree, self.index.records().parent(slot));
        let name = self.index.records().name(slot);
        directory.is_none_or(|directory| tree.child(directory, &name).is_none())
    }

    /// The kernel has come to the end of a walk.
    fn end_second_walk(&mut self, slot: u32) {
        if !self.second_walks.is_empty() {
            let path = self.path(slot);
            self.second_walks.end(&path);
        }
    }

    /// The path of a record, from the root on.
    fn path(&self, slot: u32) -> Vec<Bytes> {
        let records = self.index.records();
        let is_root = |slot: &u32| records.id(*slot) == ROOT_ID;
        let up = |slot: &u32| self.directory_of(*slot);
        let slots = std::iter::successors(Some(slot), up).take_while(|slot| !is_root(slot));
        let mut path: Vec<Bytes> = slots
            .map(|slot| Bytes::copy_from_slice(&records.name(slot)))
            .collect();
        path.reverse();
        path
    }

    /// A reply is about to tell the kernel that a name leads to an entry. Gives the record, `None` if there is no room for one
    /// more.
    fn give(&mut self, parent: u64, name: &[u8], entry: &Entry) -> Option<u32> {
        if let Some(slot) = self.index.current(parent, name) {
            let records = self.index.records();
            if records.origin(slot) == entry.inode && records.kind(slot) == entry.kind {
                records.set_lookups(slot, records.lookups(slot) + 1);
                self.way_mut(slot).is_told = false;
                self.lead(slot, Some(entry.inode));
                return Some(slot);
            }
            self.displace(slot);
        }
        self.insert(parent, name, entry)
    }

    fn insert(&mut self, parent: u64, name: &[u8], entry: &Entry) -> Option<u32> {
        let inode = entry.inode;
        let mut id = natural_id(inode);
        if !is_plain(inode) || self.index.slot(id).is_some() {
            id = drawn_id(self.index.records_mut().draw());
        }
        let slot = self.index.add(&NewName {
            id,
            parent,
            name,
            kind: entry.kind,
            origin: inode,
        })?;
        *self.way_mut(slot) = Way::default();
        if let Some(directory) = self.index.slot(parent) {
            self.way_mut(directory).child_count += 1;
        }
        self.lead(slot, Some(inode));
        Some(slot)
    }

    fn displace(&mut self, slot: u32) {
        self.index.displace(slot);
        self.lead(slot, None);
    }

    fn move_name(&mut self, from: &Place, to: &Place, version: u64) -> Moved {
        let mut slots = self.index.of_place(from.parent, &from.name);
        slots.retain(|slot| {
            self.lead(*slot, None);
            let directory = self.index.slot(to.parent);
            let moved = directory.zip(self.index.rename(*slot, to.parent, &to.name, version));
            match moved {
                Some((directory, moved)) => {
                    *self.way_mut(moved) = std::mem::take(self.way_mut(*slot));
                    self.way_mut(directory).child_count += 1;
                }
                // The kernel looks the name up again.
                None => self.displace(*slot),
            }
            moved.is_some()
        });
        Moved(slots)
    }

    /// A record in a directory is gone.
    fn leave_directory(&mut self, id: u64) {
        if let Some(directory) = self.index.slot(id) {
            self.way_mut(directory).child_count -= 1;
            self.drop_unused(id);
        }
    }

    /// Every way is looked for again.
    fn forget_all_ways(&mut self) {
        for slot in self.index.records().all() {
            self.lead(slot, None);
        }
    }

    fn lead_id(&mut self, id: u64, inode: Option<u64>) {
        if let Some(slot) = self.index.slot(id) {
            self.lead(slot, inode);
        }
    }

    fn lead(&mut self, slot: u32, inode: Option<u64>) {
        let id = self.index.records().id(slot);
        if id != ROOT_ID {
            let former = std::mem::replace(&mut self.way_mut(slot).leads_to, inode);
            self.relate(id, former, inode);
        }
    }

    fn note_open(&mut self, id: u64, bound: Bound) {
        let opens = self.opens.entry(id).or_insert(Opens {
            count: 0,
            last: bound,
        });
        opens.count += 1;
        let former = std::mem::replace(&mut opens.last, bound);
        self.relate(id, Some(former.inode), None);
        self.relate(id, None, Some(bound.inode));
    }

    /// A record has come from one inode to another.
    fn relate(&mut self, id: u64, former: Option<u64>, present: Option<u64>) {
        if former == present {
            return;
        }
        if let Some(inode) = former
            && natural_id(inode) != id
            && !self.concerns(id, inode)
            && let Some(ids) = self.others.get_mut(&inode)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.others.remove(&inode);
            }
        }
        if let Some(inode) = present
            && natural_id(inode) != id
        {
            let ids = self.others.entry(inode).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }

    fn ids_of(&self, inode: u64) -> impl Iterator<Item = u64> + use<'_> {
        let concerns = move |id: &u64| self.concerns(*id, inode);
        let own = Some(natural_id(inode)).filter(concerns);
        let others = self.others.get(&inode);
        own.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// Drops a record that nobody knows, and the directories that it has kept.
    fn drop_unused(&mut self, id: u64) {
        let mut next = self.index.slot(id);
        while let Some(slot) = next {
            let records = self.index.records();
            let id = records.id(slot);
            if id == ROOT_ID
                || records.lookups(slot) > 0
                || self.way(slot).child_count > 0
                || self.opens.contains_key(&id)
            {
                return;
            }
            next = self.directory_of(slot);
            self.lead(slot, None);
            self.index.remove(slot);
            if let Some(directory) = next {
                self.way_mut(directory).child_count -= 1;
            }
        }
    }

    /// What is open by a node id.
    fn held(&self, tree: &Tree, id: u64) -> Option<u64> {
        let bound = self.opens.get(&id)?.last;
        bound.entry(tree).ok().map(|entry| entry.inode)
    }

    /// Whether a node id leads to an inode or is open at it.
    fn concerns(&self, id: u64, inode: u64) -> bool {
        let slot = self.index.slot(id);
        slot.is_some_and(|slot| self.way(slot).leads_to == Some(inode))
            || self.opens.get(&id).is_some_and(|it| it.last.inode == inode)
    }
}
