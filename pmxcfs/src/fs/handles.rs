//! What is open.
//!
//! A handle is bound to the inode that its name led to when it was opened, and requests with a handle are about that inode,
//! whatever has become of the name. A directory keeps the listing that its first read made until it is rewound; a generated file
//! keeps the text that it had when it was opened, so that no reader sees two versions mixed.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Entry, EntryKind, ListedEntry, Tree};

use super::request_header::RequestHeader;
use super::tables::{HandleRecord, HandleRecords, Opened};

/// An inode, and when it was looked at: a synchronisation may give it to another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) inode: u64,
    /// Of the tree.
    pub(super) epoch: u64,
}

/// Inode of what is gone.
const GONE: u64 = u64::MAX;

impl Bound {
    /// What was open in a former process and is no more.
    pub(super) const GONE: Self = Self {
        inode: GONE,
        epoch: 0,
    };

    pub(super) fn new(tree: &Tree, inode: u64) -> Self {
        Self {
            inode,
            epoch: tree.epoch(),
        }
    }

    /// The entry, in the tree or kept for those who have it open.
    ///
    /// # Errors
    /// `Stale` if it is gone with a former process, or the inode is another file's by now; `NotFound` if there is none.
    pub(super) fn entry(self, tree: &Tree) -> Result<&Entry> {
        if self == Self::GONE || tree.is_reused_since(self.inode, self.epoch) {
            return Err(FsError::Stale);
        }
        tree.node(self.inode).ok_or(FsError::NotFound)
    }
}

/// What is open by one handle.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// An entry of the tree, opened by this node id. A directory has the listing of the last read at offset 0.
    Entry {
        kind: EntryKind,
        id: u64,
        bound: Bound,
        listing: Option<Arc<[ListedEntry]>>,
    },
    /// A generated file, by the index of its plugin, with its text.
    Plugin { index: usize, text: Bytes },
}

/// All that is open, by numbers that are used once.
#[derive(Debug)]
pub(super) struct Handles {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// What outlives the process.
    records: HandleRecords,
    handles: HashMap<u64, Open>,
    /// Bytes of listings and texts that each user has open.
    held: HashMap<u32, u64>,
}

#[derive(Debug)]
struct Open {
    slot: u32,
    uid: u32,
    opened_by: u64,
    handle: Handle,
}

impl Handles {
    /// What a former process has left open, as far as it can be opened again.
    pub(super) fn new(
        records: HandleRecords,
        mut reopen: impl FnMut(&HandleRecord) -> Handle,
    ) -> Self {
        let former: Vec<(u32, HandleRecord)> = records.all().collect();
        let mut table = Table {
            records,
            handles: HashMap::new(),
            held: HashMap::new(),
        };
        for (slot, record) in former {
            let handle = reopen(&record);
            if handle.is_gone() {
                table.records.lose(slot);
            }
            table.enter(slot, &record, handle);
        }
        Self {
            table: Mutex::new(Rank::FsHandles, table),
        }
    }

    /// Gives the number by which the kernel knows what a request has opened.
    ///
    /// # Errors
    /// `TooMuchOpen` if there is no room for one more.
    pub(super) fn insert(&self, request: RequestHeader, handle: Handle) -> Result<u64> {
        let mut table = self.table.lock();
        let (opened, id, inode) = handle.opened();
        let record = HandleRecord {
            number: table.records.draw(),
            opened_by: request.key(),
            uid: request.uid,
            opened,
            id,
            inode,
        };
        let slot = table.records.add(&record).ok_or(FsError::TooMuchOpen)?;
        table.enter(slot, &record, handle);
        Ok(record.number)
    }

    /// What a request has opened already, if the kernel asks once more because it got no answer.
    pub(super) fn opened_by(&self, request: RequestHeader) -> Option<(u64, Handle)> {
        if !request.is_resent() {
            return None;
        }
        let table = self.table.lock();
        let mut opens = table.handles.iter();
        let (number, open) =
            opens.find(|(_, open)| open.opened_by == request.key() && !open.handle.is_gone())?;
        Some((*number, open.handle.clone()))
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Io` for a number that is not in use: the kernel does not ask for such.
    pub(super) fn get(&self, number: u64) -> Result<Handle> {
        let table = self.table.lock();
        let open = table.handles.get(&number).ok_or(FsError::Io)?;
        Ok(open.handle.clone())
    }

    /// Another tree takes the place of the present one. Handles for which this holds lead to nothing in a later process.
    pub(super) fn lose(&self, is_lost: impl Fn(Bound) -> bool) {
        let mut table = self.table.lock();
        let Table {
            records, handles, ..
        } = &mut *table;
        for open in handles.values() {
            if let Some((_, bound)) = open.handle.name()
                && is_lost(bound)
            {
                records.lose(open.slot);
            }
        }
    }

    pub(super) fn set_listing(&self, number: u64, new: Arc<[ListedEntry]>) {
        let mut table = self.table.lock();
        let Some(open) = table.handles.get_mut(&number) else {
            return;
        };
        let former_size = open.handle.size();
        if let Handle::Entry { listing, .. } = &mut open.handle {
            *listing = Some(new);
        }
        let (uid, size) = (open.uid, open.handle.size());
        table.charge(uid, former_size, size);
    }

    /// Ends a handle. Gives what it was, and whose.
    pub(super) fn remove(&self, number: u64) -> Option<(Handle, u32)> {
        let mut table = self.table.lock();
        let open = table.handles.remove(&number)?;
        let Open {
            slot, uid, handle, ..
        } = open;
        table.records.remove(slot);
        table.charge(uid, handle.size(), 0);
        Some((handle, uid))
    }

    /// Shows everything that is open, by its number.
    pub(super) fn visit(&self, mut look: impl FnMut(u64, &Handle)) {
        for (number, open) in &self.table.lock().handles {
            look(*number, &open.handle);
        }
    }

    /// Bytes of listings and texts that a user has open.
    pub(super) fn bytes_of(&self, uid: u32) -> u64 {
        self.table.lock().held.get(&uid).copied().unwrap_or(0)
    }

    /// Those of each user who has any.
    pub(super) fn bytes(&self) -> HashMap<u32, u64> {
        self.table.lock().held.clone()
    }
}

impl Handle {
    /// The node id that it was opened by, and what it is bound to, unless it is a generated file.
    pub(super) fn name(&self) -> Option<(u64, Bound)> {
        match self {
            Self::Entry { id, bound, .. } => Some((*id, *bound)),
            Self::Plugin { .. } => None,
        }
    }

    fn is_gone(&self) -> bool {
        self.name().is_some_and(|(_, bound)| bound == Bound::GONE)
    }

    /// The record of it for a later process: its kind, its node id or index, and its inode.
    fn opened(&self) -> (Opened, u64, Option<u64>) {
        match *self {
            Self::Entry {
                kind, id, bound, ..
            } => {
                let opened = match kind {
                    EntryKind::File => Opened::File,
                    EntryKind::Directory => Opened::Directory,
                };
                (opened, id, Some(bound.inode))
            }
            Self::Plugin { index, .. } => (Opened::Plugin, index as u64, None),
        }
    }

    /// Bytes that are kept for it alone.
    fn size(&self) -> u64 {
        let size = match self {
            Self::Entry { listing, .. } => listing.as_deref().map_or(0, |rows| {
                let names: usize = rows.iter().map(|row| row.name.len()).sum();
                size_of_val(rows) + names
            }),
            Self::Plugin { text, .. } => text.len(),
        };
        size as u64
    }
}

impl Table {
    fn enter(&mut self, slot: u32, record: &HandleRecord, handle: Handle) {
        self.charge(record.uid, 0, handle.size());
        let open = Open {
            slot,
            uid: record.uid,
            opened_by: record.opened_by,
            handle,
        };
        self.handles.insert(record.number, open);
    }

    fn charge(&mut self, uid: u32, former_size: u64, size: u64) {
        if former_size == size {
            return;
        }
        let bytes = self.held.entry(uid).or_default();
        *bytes = (*bytes + size).saturating_sub(former_size);
        if *bytes == 0 {
            self.held.remove(&uid);
        }
    }
}
