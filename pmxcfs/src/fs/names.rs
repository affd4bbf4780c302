//! Names that the kernel knows: what a node id stands for.
//!
//! The kernel looks a name up, gets a node id, and uses it for a while. A node id stands for the *name*, as with a daemon that
//! turns every request into a path: it leads to whatever has that path now. What it leads to is remembered until that entry
//! is renamed or removed, or another tree takes the place of the whole. Nothing else can lead a name elsewhere, since
//! a directory that has entries is neither renamed nor removed.
//!
//! A record is *displaced* when its name has been removed, or is found to lead to something else than the id was given out for.
//! It keeps its path: requests for it may be under way. While it is open, it stands for what is open.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::sync::{Mutex, MutexGuard, Rank};
use pmxcfs_memdb::{Change, Entry, EntryKind, ROOT_INODE, Tree};

use super::handles::Bound;
use super::node::{ROOT_ID, drawn_id, is_plain, natural_id};
use super::second_walks::SecondWalks;

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

/// The names that the kernel knows.
#[derive(Debug)]
pub(super) struct NameTable {
    /// Taken while the tree is locked.
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    records: HashMap<u64, Record>,
    /// Records that lead to, or are open at, an inode that is not their number.
    others: HashMap<u64, Vec<u64>>,
    /// How many ids have been drawn.
    drawn: u64,
    /// Of the tree whose names these are.
    epoch: u64,
    /// Not in the records: the kernel may forget them in the middle of a walk.
    second_walks: SecondWalks,
}

#[derive(Debug)]
struct Record {
    /// Node id of the directory.
    parent: u64,
    name: Bytes,
    /// Whether the record is the one of its name. Otherwise it is displaced.
    is_current: bool,
    /// An id never stands for both kinds.
    kind: EntryKind,
    /// Inode that the id was given out for.
    origin: u64,
    /// Inode that has the name, if that is known.
    leads_to: Option<u64>,
    /// Replies that named the id and that the kernel has not taken back.
    lookups: u64,
    opens: u64,
    /// What the last open was of.
    opened: Option<Bound>,
    /// `ESTALE` was answered, and the kernel has not looked the name up since.
    is_told: bool,
    /// Names in this directory. A record that is in here keeps this one alive.
    names: HashMap<Bytes, Name>,
}

/// The records of one name.
#[derive(Debug, Default)]
struct Name {
    current: Option<u64>,
    displaced: HashSet<u64>,
}

impl NameTable {
    pub(super) fn new() -> Self {
        let root = Record {
            leads_to: Some(ROOT_INODE),
            lookups: 1,
            ..Record::new(ROOT_ID, Bytes::new(), EntryKind::Directory, ROOT_INODE)
        };
        let table = Table {
            records: HashMap::from([(ROOT_ID, root)]),
            others: HashMap::new(),
            drawn: 0,
            epoch: 0,
            second_walks: SecondWalks::default(),
        };
        Self {
            table: Mutex::new(Rank::FsNames, table),
        }
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
    /// `NotFound` if there is no such name, or no such directory.
    pub(super) fn look_up(
        &self,
        tree: &Tree,
        parent: u64,
        name: &[u8],
    ) -> Result<(u64, u64), FsError> {
        let mut table = self.of(tree);
        let directory = table.resolve(tree, parent).ok_or(FsError::NotFound)?;
        let Some(entry) = tree.child(directory, name) else {
            if let Some(id) = table.current(parent, name) {
                table.displace(id);
            }
            return Err(FsError::NotFound);
        };
        Ok((table.give(parent, name, entry), entry.inode))
    }

    /// The same for a name that a request has just made, or met, if an entry of this kind has it.
    pub(super) fn made(&self, tree: &Tree, place: &Place, kind: EntryKind) -> Option<(u64, u64)> {
        let mut table = self.of(tree);
        let directory = table.resolve(tree, place.parent)?;
        let entry = tree.child(directory, &place.name)?;
        if entry.kind != kind {
            return None;
        }
        let id = table.give(place.parent, &place.name, entry);
        table.end_second_walk(id);
        Some((id, entry.inode))
    }

    /// The kernel takes back `count` replies that named an id.
    pub(super) fn forget(&self, id: u64, count: u64) {
        let mut table = self.table.lock();
        if let Some(record) = table.records.get_mut(&id) {
            record.lookups = record.lookups.saturating_sub(count);
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
        let record = table.records.get_mut(&id).ok_or(FsError::NotFound)?;
        if !tree.pin(inode, uid) {
            return Err(FsError::NotFound);
        }
        record.opens += 1;
        let bound = Bound::new(tree, inode);
        let former = record.opened.replace(bound);
        table.relate(id, former.map(|bound| bound.inode), Some(inode));
        Ok(bound)
    }

    pub(super) fn closed(&self, id: u64) {
        let mut table = self.table.lock();
        if let Some(record) = table.records.get_mut(&id) {
            record.opens = record.opens.saturating_sub(1);
            if record.opens == 0 {
                let former = record.opened.take();
                table.relate(id, former.map(|bound| bound.inode), None);
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
            let ids: Vec<u64> = table.ids_of(change.inode()).collect();
            if !matches!(change, Change::Content { .. }) {
                for id in &ids {
                    table.lead(*id, None);
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
        if let Some(id) = table.current(place.parent, &place.name) {
            table.displace(id);
        }
    }

    /// A name was changed through this mount: the kernel moves what it has. That may be a displaced record, if it has looked
    /// the old name up meanwhile, so all records of the old name move.
    pub(super) fn renamed(&self, from: &Place, to: &Place) {
        if from == to {
            return;
        }
        self.removed(to);
        self.table.lock().move_name(from, to);
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
        self.table.lock().records.len()
    }
}

impl Table {
    fn resolve(&mut self, tree: &Tree, id: u64) -> Option<u64> {
        let mut unknown = Vec::new();
        let mut at = id;
        let mut inode = loop {
            let record = self.records.get(&at)?;
            if let Some(inode) = record.leads_to {
                break inode;
            }
            unknown.push(at);
            at = record.parent;
        };
        while let Some(at) = unknown.pop() {
            let record = self.records.get(&at)?;
            let entry = tree.child(inode, &record.name);
            inode = entry.filter(|entry| entry.kind == record.kind)?.inode;
            self.lead(at, Some(inode));
        }
        Some(inode)
    }

    /// Whether a walk of the kernel may come to a record: neither it nor a directory above is displaced.
    fn is_reachable(&self, id: u64) -> bool {
        let mut at = id;
        while at != ROOT_ID {
            match self.records.get(&at) {
                Some(record) if record.is_current => at = record.parent,
                _ => return false,
            }
        }
        true
    }

    fn target(&mut self, tree: &Tree, id: u64, want: Want) -> Result<u64, FsError> {
        let record = self.records.get(&id).ok_or(FsError::NotFound)?;
        let (held, is_told) = (record.held(tree), record.is_told);
        if record.kind == EntryKind::File
            && let Some(inode) = held
            && !self.is_reachable(id)
        {
            return Ok(inode);
        }
        // A directory stands for its path even if it is open, as with a daemon that knows nothing but paths.
        if let Some(inode) = self.resolve(tree, id) {
            self.set_told(id, is_told, false);
            if want == Want::Open {
                self.end_second_walk(id);
            }
            return Ok(inode);
        }
        let path = self.path(id);
        match (held, want) {
            (Some(inode), Want::Attributes | Want::Change) => Ok(inode),
            (None, Want::Open) => Err(FsError::NotFound),
            (Some(inode), Want::Open) if is_told || self.second_walks.may_come_to(&path) => {
                Ok(inode)
            }
            (None, _) if is_told || self.is_final(tree, id, want, &path) => Err(FsError::NotFound),
            _ => {
                self.set_told(id, is_told, true);
                self.second_walks.begin(path);
                Err(FsError::Stale)
            }
        }
    }

    /// Whether a request has to be told that nothing has its path: that is so, and the request may belong to a second walk or
    /// does not need one.
    fn is_final(&mut self, tree: &Tree, id: u64, want: Want, path: &[Bytes]) -> bool {
        if want != Want::Change && !self.second_walks.may_come_to(path) {
            return false;
        }
        let Some(record) = self.records.get(&id) else {
            return true;
        };
        let (parent, name) = (record.parent, record.name.clone());
        let directory = self.resolve(tree, parent);
        directory.is_none_or(|directory| tree.child(directory, &name).is_none())
    }

    fn set_told(&mut self, id: u64, former: bool, is_told: bool) {
        if former != is_told
            && let Some(record) = self.records.get_mut(&id)
        {
            record.is_told = is_told;
        }
    }

    /// The kernel has come to the end of a walk.
    fn end_second_walk(&mut self, id: u64) {
        if !self.second_walks.is_empty() {
            let path = self.path(id);
            self.second_walks.end(&path);
        }
    }

    /// The path of a record, from the root on.
    fn path(&self, id: u64) -> Vec<Bytes> {
        let record = |id: u64| self.records.get(&id).filter(|_| id != ROOT_ID);
        let names = std::iter::successors(record(id), |it| record(it.parent));
        let mut path: Vec<Bytes> = names.map(|it| it.name.clone()).collect();
        path.reverse();
        path
    }

    /// A reply is about to tell the kernel that a name leads to an entry. Gives the node id.
    fn give(&mut self, parent: u64, name: &[u8], entry: &Entry) -> u64 {
        if let Some(id) = self.current(parent, name) {
            if let Some(record) = self.records.get_mut(&id)
                && record.origin == entry.inode
                && record.kind == entry.kind
            {
                record.lookups += 1;
                record.is_told = false;
                self.lead(id, Some(entry.inode));
                return id;
            }
            self.displace(id);
        }
        self.insert(parent, name, entry)
    }

    fn insert(&mut self, parent: u64, name: &[u8], entry: &Entry) -> u64 {
        let inode = entry.inode;
        let mut id = natural_id(inode);
        if !is_plain(inode) || self.records.contains_key(&id) {
            id = drawn_id(self.drawn);
            self.drawn += 1;
        }
        let name = Bytes::copy_from_slice(name);
        if let Some(directory) = self.records.get_mut(&parent) {
            directory.names.entry(name.clone()).or_default().current = Some(id);
        }
        let record = Record {
            lookups: 1,
            ..Record::new(parent, name, entry.kind, inode)
        };
        self.records.insert(id, record);
        self.lead(id, Some(inode));
        id
    }

    fn name_mut(&mut self, parent: u64, name: &[u8]) -> Option<&mut Name> {
        self.records.get_mut(&parent)?.names.get_mut(name)
    }

    fn current(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.records.get(&parent)?.names.get(name)?.current
    }

    fn displace(&mut self, id: u64) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        record.is_current = false;
        let (parent, name) = (record.parent, record.name.clone());
        if let Some(name) = self.name_mut(parent, &name) {
            name.current = None;
            name.displaced.insert(id);
        }
        self.lead(id, None);
    }

    fn move_name(&mut self, from: &Place, to: &Place) {
        let names = self.records.get_mut(&from.parent).map(|it| &mut it.names);
        let Some(moved) = names.and_then(|names| names.remove(&from.name)) else {
            return;
        };
        for id in moved.current.iter().chain(&moved.displaced) {
            if let Some(record) = self.records.get_mut(id) {
                record.parent = to.parent;
                record.name = to.name.clone();
            }
            self.lead(*id, None);
        }
        if let Some(directory) = self.records.get_mut(&to.parent) {
            let there = directory.names.entry(to.name.clone()).or_default();
            there.current = moved.current;
            there.displaced.extend(moved.displaced);
        }
        self.drop_unused(from.parent);
    }

    /// Every way is looked for again.
    fn forget_all_ways(&mut self) {
        let ids: Vec<u64> = self.records.keys().copied().collect();
        for id in ids.into_iter().filter(|id| *id != ROOT_ID) {
            self.lead(id, None);
        }
    }

    fn lead(&mut self, id: u64, inode: Option<u64>) {
        if id != ROOT_ID
            && let Some(record) = self.records.get_mut(&id)
        {
            let former = std::mem::replace(&mut record.leads_to, inode);
            self.relate(id, former, inode);
        }
    }

    /// A record has come from one inode to another.
    fn relate(&mut self, id: u64, former: Option<u64>, present: Option<u64>) {
        if former == present {
            return;
        }
        if let Some(inode) = former
            && natural_id(inode) != id
            && !self.records.get(&id).is_some_and(|it| it.concerns(inode))
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
        let concerns = |id: &u64| self.records.get(id).is_some_and(|it| it.concerns(inode));
        let own = Some(natural_id(inode)).filter(concerns);
        let others = self.others.get(&inode);
        own.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// Drops a record that nobody knows, and the directories that it has kept.
    fn drop_unused(&mut self, id: u64) {
        let mut next = id;
        while next != ROOT_ID
            && let Some(record) = self.records.get(&next)
            && record.lookups == 0
            && record.opens == 0
            && record.names.is_empty()
        {
            let id = next;
            self.lead(id, None);
            let Some(record) = self.records.remove(&id) else {
                return;
            };
            next = record.parent;
            if let Some(directory) = self.records.get_mut(&next)
                && let Some(name) = directory.names.get_mut(&record.name)
            {
                name.current = name.current.filter(|current| *current != id);
                name.displaced.remove(&id);
                if name.current.is_none() && name.displaced.is_empty() {
                    directory.names.remove(&record.name);
                }
            }
        }
    }
}

impl Record {
    fn new(parent: u64, name: Bytes, kind: EntryKind, origin: u64) -> Self {
        Self {
            parent,
            name,
            is_current: true,
            kind,
            origin,
            leads_to: None,
            lookups: 0,
            opens: 0,
            opened: None,
            is_told: false,
            names: HashMap::new(),
        }
    }

    /// What is open by this record.
    fn held(&self, tree: &Tree) -> Option<u64> {
        let bound = self.opened?;
        bound.entry(tree).ok().map(|entry| entry.inode)
    }

    fn concerns(&self, inode: u64) -> bool {
        self.leads_to == Some(inode) || self.opened.is_some_and(|bound| bound.inode == inode)
    }
}
