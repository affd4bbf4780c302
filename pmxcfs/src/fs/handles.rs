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

/// One open.
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
    handles: HashMap<u64, Handle>,
    last: u64,
}

impl Handles {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::new(Rank::FsHandles, Table::default()),
        }
    }

    pub(super) fn insert(&self, handle: Handle) -> u64 {
        let mut table = self.table.lock();
        table.last += 1;
        let number = table.last;
        table.handles.insert(number, handle);
        number
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Io` for a number that is not in use: the kernel does not ask for such.
    pub(super) fn get(&self, number: u64) -> Result<Handle, FsError> {
        let table = self.table.lock();
        table.handles.get(&number).cloned().ok_or(FsError::Io)
    }

    pub(super) fn set_listing(&self, number: u64, new: Arc<[ListedEntry]>) {
        if let Some(Handle::Directory { listing, .. }) = self.table.lock().handles.get_mut(&number)
        {
            *listing = new;
        }
    }

    pub(super) fn remove(&self, number: u64) -> Option<Handle> {
        self.table.lock().handles.remove(&number)
    }
}
