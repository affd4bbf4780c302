//! What is open.
//!
//! A handle is bound to the inode that its name led to when it was opened, and requests with a handle are about that inode,
//! whatever has become of the name. A directory keeps the listing that its first read made until it is rewound; a generated file
//! keeps the text that it had when it was opened, so that no reader sees two versions mixed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_memdb::{Entry, ListedEntry, Tree};

/// An inode, and when it was looked at: a synchronisation may give it to another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) inode: u64,
    /// Of the tree.
    pub(super) epoch: u64,
}

impl Bound {
    pub(super) fn new(tree: &Tree, inode: u64) -> Self {
        Self {
            inode,
            epoch: tree.epoch(),
        }
    }

    /// The entry, in the tree or kept for those who have it open.
    ///
    /// # Errors
    /// `Stale` if the inode is another file's by now, `NotFound` if there is none.
    pub(super) fn entry(self, tree: &Tree) -> Result<&Entry, FsError> {
        if tree.is_reused_since(self.inode, self.epoch) {
            return Err(FsError::Stale);
        }
        tree.node(self.inode).ok_or(FsError::NotFound)
    }
}

/// What is open by one handle.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// A file of the tree, opened by this node id.
    File { id: u64, bound: Bound },
    /// A directory, with the listing of the last read at offset 0.
    Directory {
        id: u64,
        bound: Bound,
        listing: Arc<[ListedEntry]>,
    },
    /// A generated file, by the index of its plugin, with its text.
    Plugin { index: usize, text: Bytes },
}

/// All that is open, by numbers that are used once.
#[derive(Debug)]
pub(super) struct Handles {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    handles: HashMap<u64, Open>,
    last: u64,
    /// Bytes of listings and texts that each user has open.
    held: HashMap<u32, u64>,
}

#[derive(Debug)]
struct Open {
    uid: u32,
    handle: Handle,
}

impl Handles {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::new(Rank::FsHandles, Table::default()),
        }
    }

    /// Gives the number by which the kernel knows what a user has opened.
    pub(super) fn insert(&self, uid: u32, handle: Handle) -> u64 {
        let mut table = self.table.lock();
        table.last += 1;
        let number = table.last;
        table.charge(uid, 0, handle.size());
        table.handles.insert(number, Open { uid, handle });
        number
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Io` for a number that is not in use: the kernel does not ask for such.
    pub(super) fn get(&self, number: u64) -> Result<Handle, FsError> {
        let table = self.table.lock();
        let open = table.handles.get(&number).ok_or(FsError::Io)?;
        Ok(open.handle.clone())
    }

    pub(super) fn set_listing(&self, number: u64, new: Arc<[ListedEntry]>) {
        let mut table = self.table.lock();
        let Some(open) = table.handles.get_mut(&number) else {
            return;
        };
        let former_size = open.handle.size();
        if let Handle::Directory { listing, .. } = &mut open.handle {
            *listing = new;
        }
        let (uid, size) = (open.uid, open.handle.size());
        table.charge(uid, former_size, size);
    }

    /// Ends a handle. Gives what it was, and whose.
    pub(super) fn remove(&self, number: u64) -> Option<(Handle, u32)> {
        let mut table = self.table.lock();
        let Open { uid, handle } = table.handles.remove(&number)?;
        table.charge(uid, handle.size(), 0);
        Some((handle, uid))
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
    /// Bytes that are kept for it alone.
    fn size(&self) -> u64 {
        let size = match self {
            Self::File { .. } => 0,
            Self::Directory { listing, .. } => {
                let names: usize = listing.iter().map(|row| row.name.len()).sum();
                size_of_val(&listing[..]) + names
            }
            Self::Plugin { text, .. } => text.len(),
        };
        size as u64
    }
}

impl Table {
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
