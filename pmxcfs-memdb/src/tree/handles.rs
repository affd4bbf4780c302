//! Entries that somebody has open.
//!
//! An open entry that is deleted or replaced lives on as an orphan until the last handle is closed, as on any
//! filesystem. Orphans are in memory only: not stored, not replicated, not counted.

use pmxcfs_api_types::{FsError, Result};

use super::Tree;
use crate::{Operation, content::Extent, entry::Entry};

impl Tree {
    /// Keeps an entry alive for a user until a matching [`Tree::unpin`], even if it is deleted or replaced. False if there is
    /// no such entry; then nothing is pinned.
    pub fn pin(&mut self, inode: u64, uid: u32) -> bool {
        let exists = self.node(inode).is_some();
        if exists {
            self.handles.pin(inode, uid);
        }
        exists
    }

    /// Takes back one [`Tree::pin`] of a user. The last one of all drops an orphan.
    pub fn unpin(&mut self, inode: u64, uid: u32) {
        self.handles.unpin(inode, uid);
    }

    /// Takes in an entry that had left the tree of a former process, to be [pinned](Tree::pin) at once.
    pub fn restore_orphan(&mut self, entry: Entry, is_private: bool) {
        self.handles.restore(entry, is_private);
    }

    /// Bytes of all orphans that a user has open. What several users have open counts for each of them.
    pub fn orphan_bytes_of(&self, uid: u32) -> u64 {
        self.handles.kept.get(&uid).copied().unwrap_or(0)
    }

    /// That of each user who has any.
    pub fn orphan_bytes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.handles.kept.iter().map(|(uid, bytes)| (*uid, *bytes))
    }

    /// The entry with this inode, in the tree or an orphan.
    pub fn node(&self, inode: u64) -> Option<&Entry> {
        self.entry(inode).or_else(|| self.handles.orphan(inode))
    }

    /// Whether an entry has left the tree and lives on because it is pinned.
    pub fn is_orphan(&self, inode: u64) -> bool {
        self.handles.orphans.contains_key(&inode)
    }

    /// How many trees this one has followed ([`Tree::adopt`]). Who pins an entry keeps it, to ask later what the inode stands
    /// for.
    pub fn epoch(&self) -> u64 {
        self.handles.epoch
    }

    /// Whether a pinned inode stands for another entry than it did in an earlier epoch. Nodes that wrote apart from each other
    /// (somebody has overridden the quorum) have given the same inodes to different files; when they meet, one side's remain.
    pub fn is_reused_since(&self, inode: u64, epoch: u64) -> bool {
        self.handles
            .reused
            .get(&inode)
            .is_some_and(|since| epoch < *since)
    }

    /// Changes an orphan: writes, truncates or sets the mtime, whatever path the operation has. Gives the number of bytes
    /// written.
    ///
    /// # Errors
    /// As [`Tree::write_orphan`] and [`Tree::touch_orphan`]; `Invalid` for other operations.
    pub fn change_orphan(&mut self, inode: u64, operation: &Operation) -> Result<u32> {
        match operation {
            Operation::Write {
                offset,
                data,
                truncate,
                ..
            } => self.write_orphan(inode, *offset, data, *truncate),
            Operation::SetMtime { mtime, .. } => self.touch_orphan(inode, *mtime).map(|()| 0),
            _ => Err(FsError::Invalid),
        }
    }

    /// Writes to an orphan, or truncates it, as [`Operation::Write`] does to a file in the
    /// tree. No version moves. Gives the number of bytes written.
    ///
    /// # Errors
    /// `TooBig` beyond the largest size of a file, `NotFound` if there is no such orphan, `NotDirectory` if it is a
    /// directory.
    pub fn write_orphan(
        &mut self,
        inode: u64,
        offset: u64,
        data: &[u8],
        truncate: bool,
    ) -> Result<u32> {
        let extent = Extent::new(offset, data.len())?;
        let orphan = self
            .handles
            .orphans
            .get_mut(&inode)
            .ok_or(FsError::NotFound)?;
        if orphan.entry.is_directory() {
            return Err(FsError::NotDirectory);
        }
        let former_size = orphan.entry.size;
        orphan.entry.write(extent, data, truncate);
        let size = orphan.entry.size;
        self.handles.charge(inode, former_size, size);
        Ok(extent.length)
    }

    /// Sets the mtime of an orphan that is a file, in seconds. Without effect on anything else.
    ///
    /// # Errors
    /// `NotFound` if there is no such orphan, or it is a directory: whoever touches a lock to keep it has to learn that it
    /// is gone.
    pub fn touch_orphan(&mut self, inode: u64, mtime: u32) -> Result<()> {
        let orphan = self.handles.orphans.get_mut(&inode);
        let file = orphan.filter(|orphan| !orphan.entry.is_directory());
        file.ok_or(FsError::NotFound)?.entry.mtime = mtime;
        Ok(())
    }

    /// Takes over what is open in a former tree. What this tree lacks becomes an orphan.
    pub(super) fn adopt_handles(&mut self, former: &mut Self) {
        self.handles = std::mem::take(&mut former.handles);
        self.note_reuse(former);
        let back = self.handles.orphans.keys().copied();
        let back: Vec<u64> = back.filter(|it| self.nodes.contains_key(it)).collect();
        for inode in back {
            if let Some(orphan) = self.handles.orphans.remove(&inode) {
                self.handles.charge(inode, orphan.entry.size, 0);
            }
        }
        let pinned = self.handles.pins.keys().copied();
        let lost = pinned.filter(|inode| !self.nodes.contains_key(inode));
        // What is private follows from directories, which are taken out, too.
        let lost: Vec<(u64, bool)> = lost
            .map(|inode| (inode, former.is_private(inode)))
            .collect();
        for (inode, is_private) in lost {
            if let Some(node) = former.nodes.remove(&inode) {
                self.handles.bury(node, is_private);
            }
        }
    }

    /// Whether an inode stands for another entry in a tree that follows this one. An entry that has another name by now is not
    /// told from one that only has its inode: this tree does not know how the new one came about.
    pub fn is_reused_by(&self, new: &Self, inode: u64) -> bool {
        self.node(inode).is_some_and(|old| new.is_other(old))
    }

    fn note_reuse(&mut self, former: &Self) {
        self.handles.epoch += 1;
        let handles = &self.handles;
        let is_other = |inode: &u64| {
            let old = former.entry(*inode).or_else(|| handles.orphan(*inode));
            old.is_some_and(|old| self.is_other(old))
        };
        let reused: Vec<u64> = handles.pins.keys().copied().filter(is_other).collect();
        let epoch = handles.epoch;
        let reused = reused.into_iter().map(|inode| (inode, epoch));
        self.handles.reused.extend(reused);
    }

    /// Whether the inode of an entry of another tree is another entry's in this one.
    fn is_other(&self, old: &Entry) -> bool {
        let new = self.entry(old.inode);
        new.is_some_and(|new| {
            (old.parent, &old.name, old.kind) != (new.parent, &new.name, new.kind)
        })
    }
}
