//! Where the names that the kernel knows lead, without a lock: see [`super::names`].

use bytes::Bytes;
use hashbrown::HashMap;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE, Tree};
use smallvec::SmallVec;

use super::handles::Bound;
use super::name_index::{NameIndex, Slots};
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

/// A name in a directory, for which a node id of the directory stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: u64,
    pub(super) name: Bytes,
}

/// Records of names where they were before a change of this mount.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Moved(pub(super) Slots);

#[derive(Debug)]
pub(super) struct Ways {
    /// What outlives the process.
    pub(super) index: NameIndex,
    /// What is known of a record beside, by its slot.
    pub(super) by_slot: Vec<Way>,
    /// Node ids that lead to, or are open at, an inode that is not their number.
    others: HashMap<u64, Vec<u64>>,
    /// Of the tree whose names these are.
    pub(super) epoch: u64,
    /// Not in the records: the kernel may forget them in the middle of a walk.
    pub(super) second_walks: SecondWalks,
}

#[derive(Debug, Default)]
pub(super) struct Way {
    /// Inode that has the name, if that is known.
    pub(super) leads_to: Option<u64>,
    /// Records of names in this directory. They keep this one alive.
    pub(super) child_count: u32,
    /// `ESTALE` was answered, and the kernel has not looked the name up since.
    is_told: bool,
    /// The opens by its node id.
    pub(super) opens: Option<Box<Opens>>,
}

#[derive(Debug)]
pub(super) struct Opens {
    pub(super) count: u64,
    /// What the last open was of.
    pub(super) last: Bound,
}

impl Ways {
    /// The names of these records, and the root, as the version of the database has them that was loaded.
    pub(super) fn new(records: NameRecords, loaded_version: u64) -> Self {
        let mut ways = Self {
            index: NameIndex::new(records, loaded_version),
            by_slot: Vec::new(),
            others: HashMap::new(),
            epoch: 0,
            second_walks: SecondWalks::default(),
        };
        if ways.index.slot(ROOT_ID).is_none() {
            let root = NewName {
                id: ROOT_ID,
                parent: ROOT_ID,
                name: &[],
                kind: EntryKind::Directory,
                origin: ROOT_INODE,
            };
            let slot = ways.index.add(&root);
            slot.expect("an empty table has room for one record");
        }
        for slot in ways.index.records().all() {
            ways.way_mut(slot);
            if let Some(parent) = ways.directory_of(slot) {
                ways.way_mut(parent).child_count += 1;
            }
        }
        if let Some(root) = ways.index.slot(ROOT_ID) {
            ways.way_mut(root).leads_to = Some(ROOT_INODE);
        }
        ways
    }

    fn way(&self, slot: u32) -> &Way {
        &self.by_slot[slot as usize]
    }

    pub(super) fn way_mut(&mut self, slot: u32) -> &mut Way {
        let at = slot as usize;
        if at >= self.by_slot.len() {
            self.by_slot.resize_with(at + 1, Way::default);
        }
        &mut self.by_slot[at]
    }

    /// The record of the directory of a name, `None` for the root.
    pub(super) fn directory_of(&self, slot: u32) -> Option<u32> {
        let records = self.index.records();
        match records.id(slot) {
            ROOT_ID => None,
            _ => self.index.slot(records.parent(slot)),
        }
    }

    /// The inode that has the path of a record now.
    pub(super) fn resolve(&mut self, tree: &Tree, id: u64) -> Option<u64> {
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

    /// The inode that a request without a handle is for: the one that has the path of the record, or the one that is open by it.
    ///
    /// # Errors
    /// `NotFound` if there is nothing, and `Stale` the first time if that may not be the truth: the kernel walks the path once
    /// more then, and looks each name up. It does so only once, and not for a working directory.
    pub(super) fn target(&mut self, tree: &Tree, id: u64, want: Want) -> Result<u64> {
        let slot = self.index.slot(id).ok_or(FsError::NotFound)?;
        let (held, is_told) = (self.held(tree, slot), self.way(slot).is_told);
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
    pub(super) fn end_second_walk(&mut self, slot: u32) {
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
    pub(super) fn give(&mut self, parent: u64, name: &[u8], entry: &Entry) -> Option<u32> {
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

    pub(super) fn displace(&mut self, slot: u32) {
        self.index.displace(slot);
        self.lead(slot, None);
    }

    pub(super) fn move_name(&mut self, from: &Place, to: &Place, version: u64) -> Moved {
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
    pub(super) fn leave_directory(&mut self, id: u64) {
        if let Some(directory) = self.index.slot(id) {
            self.way_mut(directory).child_count -= 1;
            self.drop_unused(id);
        }
    }

    /// Every way is looked for again.
    pub(super) fn forget_all_ways(&mut self) {
        for slot in self.index.records().all() {
            self.lead(slot, None);
        }
    }

    pub(super) fn lead_id(&mut self, id: u64, inode: Option<u64>) {
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

    pub(super) fn note_open(&mut self, id: u64, bound: Bound) {
        let Some(slot) = self.index.slot(id) else {
            return;
        };
        let opens = &mut self.way_mut(slot).opens;
        let count = opens.as_ref().map_or(0, |opens| opens.count) + 1;
        let last = Opens { count, last: bound };
        let former = opens.replace(Box::new(last));
        self.relate(id, former.map(|it| it.last.inode), Some(bound.inode));
    }

    /// A record has come from one inode to another.
    pub(super) fn relate(&mut self, id: u64, former: Option<u64>, present: Option<u64>) {
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

    /// Whether an inode may have more than the node id that is its number.
    pub(super) fn has_others(&self, inode: u64) -> bool {
        self.others.contains_key(&inode)
    }

    pub(super) fn ids_of(&self, inode: u64) -> impl Iterator<Item = u64> + use<'_> {
        let concerns = move |id: &u64| self.concerns(*id, inode);
        let own = Some(natural_id(inode)).filter(concerns);
        let others = self.others.get(&inode);
        own.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// Drops a record that nobody knows, and the directories that it has kept.
    pub(super) fn drop_unused(&mut self, id: u64) {
        let mut next = self.index.slot(id);
        while let Some(slot) = next {
            let records = self.index.records();
            let id = records.id(slot);
            if id == ROOT_ID
                || records.lookups(slot) > 0
                || self.way(slot).child_count > 0
                || self.way(slot).opens.is_some()
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

    /// The inode that is open by the node id of a record.
    fn held(&self, tree: &Tree, slot: u32) -> Option<u64> {
        let bound = self.way(slot).opens.as_ref()?.last;
        bound.entry(tree).ok().map(|entry| entry.inode)
    }

    /// Whether a node id leads to an inode or is open at it.
    fn concerns(&self, id: u64, inode: u64) -> bool {
        self.index.slot(id).is_some_and(|slot| {
            let way = self.way(slot);
            let opens = way.opens.as_ref();
            way.leads_to == Some(inode) || opens.is_some_and(|it| it.last.inode == inode)
        })
    }
}
