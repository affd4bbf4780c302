//! What an open handle holds beyond its node number.
//!
//! A handle of a tree file needs no content: the entry is pinned by its inode. It only tells when it was opened, since a
//! synchronisation may give the inode to another file (`Tree::is_reused_since`). A directory
//! keeps the listing that its first read made, until it is rewound; a generated file keeps the text it had when it was
//! opened, so that no reader sees two versions mixed.

use std::sync::Arc;

use bytes::Bytes;
use fuser::FileHandle;
use parking_lot::Mutex;
use pmxcfs_memdb::ListedEntry;

/// Content of one handle.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// A directory; the listing is made by the read at offset 0.
    Directory(Option<Arc<[ListedEntry]>>),
    /// Text of a generated file.
    Snapshot(Bytes),
}

/// All handles with content.
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// Leaf lock: nothing is called while it is held.
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    used: Vec<Option<Handle>>,
    free: Vec<usize>,
}

/// Set in the handle numbers of tree files; the other bits are the epoch.
const TREE_FILE: u64 = 1 << 63;

/// Handle of a tree file that was opened in this epoch of the tree.
pub(super) fn tree_file(epoch: u64) -> FileHandle {
    FileHandle(TREE_FILE | epoch)
}

/// The epoch in which a tree file was opened. The last one, if the handle is none of a tree file.
pub(super) fn epoch_of(handle: FileHandle) -> u64 {
    match handle.0 & TREE_FILE {
        0 => u64::MAX,
        _ => handle.0 & !TREE_FILE,
    }
}

fn slot(handle: FileHandle) -> Option<usize> {
    usize::try_from(handle.0.checked_sub(1)?).ok()
}

impl Handles {
    pub(super) fn insert(&self, handle: Handle) -> FileHandle {
        let mut slots = self.slots.lock();
        let index = match slots.free.pop() {
            Some(index) => {
                slots.used[index] = Some(handle);
                index
            }
            None => {
                slots.used.push(Some(handle));
                slots.used.len() - 1
            }
        };
        FileHandle(index as u64 + 1)
    }

    /// Text of a generated file, if the handle is one.
    pub(super) fn snapshot(&self, handle: FileHandle) -> Option<Bytes> {
        match self.slots.lock().used.get(slot(handle)?)? {
            Some(Handle::Snapshot(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Listing that a directory handle has so far.
    pub(super) fn listing(&self, handle: FileHandle) -> Option<Arc<[ListedEntry]>> {
        match self.slots.lock().used.get(slot(handle)?)? {
            Some(Handle::Directory(listing)) => listing.clone(),
            _ => None,
        }
    }

    pub(super) fn set_listing(&self, handle: FileHandle, listing: Arc<[ListedEntry]>) {
        let mut slots = self.slots.lock();
        if let Some(index) = slot(handle)
            && let Some(Some(Handle::Directory(held))) = slots.used.get_mut(index)
        {
            *held = Some(listing);
        }
    }

    pub(super) fn remove(&self, handle: FileHandle) {
        let Some(index) = slot(handle) else {
            return;
        };
        let mut slots = self.slots.lock();
        if let Some(used) = slots.used.get_mut(index)
            && used.take().is_some()
        {
            slots.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_files_tell_when_they_were_opened() {
        assert_eq!(epoch_of(tree_file(0)), 0);
        assert_eq!(epoch_of(tree_file(77)), 77);
        let other = Handles::default().insert(Handle::Directory(None));
        assert_eq!(epoch_of(other), u64::MAX);
    }

    #[test]
    fn slots_are_reused_and_foreign_numbers_are_harmless() {
        let handles = Handles::default();
        let first = handles.insert(Handle::Snapshot(Bytes::from_static(b"a")));
        let second = handles.insert(Handle::Directory(None));
        assert_ne!(first, second);
        assert_eq!(handles.snapshot(first).as_deref(), Some(&b"a"[..]));
        assert!(handles.snapshot(second).is_none() && handles.listing(first).is_none());
        handles.remove(first);
        handles.remove(first);
        assert!(handles.snapshot(first).is_none());
        assert_eq!(handles.insert(Handle::Snapshot(Bytes::new())), first);
        for number in [0, 99, tree_file(0).0, tree_file(1).0, u64::MAX] {
            handles.remove(FileHandle(number));
            assert!(handles.snapshot(FileHandle(number)).is_none());
        }
    }
}
