//! The one mutator.
//!
//! Checks come in the C daemon's order, because the first that fails decides the errno, and an operation changes nothing
//! before all have passed. Nothing here may depend on the clock, on limits, or on anything else that differs between
//! nodes; `now_secs` only serves the ages of locks.

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result, path::GuestConfig};

use super::{Directory, Node, Rules, Slot, Tree};
use crate::{
    change::Change,
    content::Extent,
    entry::{Entry, EntryKind, ROOT_INODE},
    operation::{Operation, Stamp},
};

impl Tree {
    /// Applies one operation, local or delivered, and appends its effects to `changes`, in order. Returns the number of bytes
    /// written, 0 for other operations. `now_secs` is monotonic.
    ///
    /// A refused operation changes nothing and reports nothing, with one exception: with [`Rules::Replicated`] a rename of a
    /// directory that has entries removes its target and is then refused with `NotEmpty`, as by C peers.
    ///
    /// # Errors
    /// `TooBig`, `NotFound`, `NotDirectory`, `Access`, `Exists`, `NotEmpty`, `Invalid` from the operation's checks; `Io` if the
    /// version of the database cannot grow.
    pub fn apply(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        changes: &mut Vec<Change>,
    ) -> Result<u32> {
        match operation {
            Operation::Mkdir { path } => self.mkdir(path, stamp, now_secs, changes)?,
            Operation::Create { path } => self.create(path, stamp, changes)?,
            Operation::Write {
                path,
                offset,
                data,
                truncate,
            } => {
                let extent = Extent::new(*offset, data.len())?;
                self.write(path, extent, data, *truncate, stamp, changes)?;
                return Ok(extent.length);
            }
            Operation::Delete { path } => self.delete(path, stamp, changes)?,
            Operation::Rename { from, to } => self.rename(from, to, stamp, changes)?,
            Operation::SetMtime { path, mtime } => {
                let stamp = Stamp {
                    mtime: *mtime,
                    ..stamp
                };
                self.set_mtime(path, stamp, now_secs, changes)?;
            }
        }
        Ok(0)
    }

    /// Whether [`Tree::fill_holes`] has something to do.
    pub fn has_holes(&self) -> bool {
        self.entries().any(Entry::is_hole)
    }

    /// Fills every hole with the zeros that it reads as, and appends the effects to `changes`. No version moves.
    ///
    /// Call this before the node announces its index: a C follower cannot hold a size without data, so it agrees only with
    /// an index over the zeros.
    pub fn fill_holes(&mut self, changes: &mut Vec<Change>) {
        for node in self.nodes.values_mut() {
            if node.entry().is_hole() {
                let entry = node.entry_mut();
                let zeros = entry.content();
                changes.push(Change::Content {
                    inode: entry.inode,
                    keep: 0,
                    offset: 0,
                    data: zeros.clone(),
                    size: entry.size,
                });
                entry.data = zeros;
            }
        }
    }

    fn mkdir(
        &mut self,
        path: &[u8],
        stamp: Stamp,
        now_secs: u64,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let slot = self.slot(path)?;
        if slot.occupant.is_some() {
            return Err(FsError::Exists);
        }
        let inode = self.make(slot, EntryKind::Directory, stamp)?;
        changes.push(Change::Put { inode });
        if Self::is_direct_lock_path(path) {
            self.reset_lock(inode, now_secs);
        }
        Ok(())
    }

    fn create(&mut self, path: &[u8], stamp: Stamp, changes: &mut Vec<Change>) -> Result<()> {
        let slot = self.slot(path)?;
        let config = self.free_config(path)?;
        match slot.occupant.map(|inode| self.kind(inode)) {
            Some(EntryKind::Directory) => return Err(FsError::NotDirectory),
            Some(EntryKind::File) => return Err(FsError::Exists),
            None => {}
        }
        let inode = self.make(slot, EntryKind::File, stamp)?;
        changes.push(Change::Put { inode });
        self.versions.bump(path);
        if let Some(config) = config {
            self.guests.register(&config);
        }
        Ok(())
    }

    fn write(
        &mut self,
        path: &[u8],
        extent: Extent,
        data: &Bytes,
        truncate: bool,
        stamp: Stamp,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let slot = self.slot(path)?;
        let config = self.free_config(path)?;
        let inode = slot.occupant.ok_or(FsError::NotFound)?;
        if self.kind(inode) == EntryKind::Directory {
            return Err(FsError::NotDirectory);
        }
        self.step(stamp)?;
        self.keep_former(inode);
        let entry = self.mark(inode, stamp);
        let former_size = entry.size;
        let outcome = entry.write(extent, data, truncate);
        changes.push(Change::Content {
            inode,
            keep: outcome.keep,
            offset: extent.offset,
            data: data.clone(),
            size: outcome.size,
        });
        self.size_total = self.size_total - u64::from(former_size) + u64::from(outcome.size);
        self.versions.bump(path);
        if let Some(config) = config {
            self.guests.register(&config);
        }
        Ok(())
    }

    pub(super) fn delete(
        &mut self,
        path: &[u8],
        stamp: Stamp,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let inode = self.resolve(path).ok_or(FsError::NotFound)?;
        if inode == ROOT_INODE {
            return Err(FsError::Access);
        }
        if self.has_children(inode) {
            return Err(FsError::NotEmpty);
        }
        self.step(stamp)?;
        let kind = self.kind(inode);
        self.remove(inode, changes);
        self.versions.bump(path);
        if let Some(config) = GuestConfig::parse(path)
            && self.deletion_frees_id(kind)
        {
            self.guests.remove(config.vmid);
        }
        Ok(())
    }

    /// Whether deleting an entry with the path of a guest config takes the id off the list. C peers do so for a directory,
    /// too, although it is no guest and another node may have the id. The list decides what is refused, so a node among
    /// them must do the same.
    const fn deletion_frees_id(&self, kind: EntryKind) -> bool {
        match self.rules {
            Rules::Local => matches!(kind, EntryKind::File),
            Rules::Replicated => true,
        }
    }

    fn set_mtime(
        &mut self,
        path: &[u8],
        stamp: Stamp,
        now_secs: u64,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let slot = self.slot(path)?;
        let inode = slot.occupant.ok_or(FsError::NotFound)?;
        let entry = self.nodes[&inode].entry();
        let is_lock = Self::is_direct_lock_path(path) && entry.is_directory();
        if is_lock && (stamp.mtime < entry.mtime || stamp.writer != entry.writer) {
            return Err(FsError::Access);
        }
        self.step(stamp)?;
        self.mark(inode, stamp);
        changes.push(Change::Put { inode });
        self.versions.bump(path);
        if is_lock {
            self.reset_lock(inode, now_secs);
        }
        Ok(())
    }

    /// The guest config that a path names, if any. `Exists` if its id belongs to another node or kind of guest.
    fn free_config<'a>(&self, path: &'a [u8]) -> Result<Option<GuestConfig<'a>>> {
        let config = GuestConfig::parse(path);
        match &config {
            Some(config) if self.guests.list.is_taken(config) => Err(FsError::Exists),
            _ => Ok(config),
        }
    }

    /// Counts a change in the root. `Io` without effect if the version cannot grow.
    pub(super) fn step(&mut self, stamp: Stamp) -> Result<()> {
        let root = self.node_mut(ROOT_INODE).entry_mut();
        root.version = root.version.checked_add(1).ok_or(FsError::Io)?;
        root.writer = stamp.writer;
        root.mtime = stamp.mtime;
        Ok(())
    }

    /// Marks an entry as changed by the present version.
    pub(super) fn mark(&mut self, inode: u64, stamp: Stamp) -> &mut Entry {
        let version = self.root().version;
        let entry = self.node_mut(inode).entry_mut();
        entry.version = version;
        entry.writer = stamp.writer;
        entry.mtime = stamp.mtime;
        entry
    }

    /// Makes a new entry, whose inode is the new version of the database. `Io` if that inode is in use: the version of the
    /// database was lower than one of its inodes.
    fn make(&mut self, slot: Slot<'_>, kind: EntryKind, stamp: Stamp) -> Result<u64> {
        let inode = self.root().version.checked_add(1).ok_or(FsError::Io)?;
        if self.nodes.contains_key(&inode) {
            return Err(FsError::Io);
        }
        self.step(stamp)?;
        let entry = Entry {
            inode,
            parent: slot.parent,
            version: inode,
            writer: stamp.writer,
            mtime: stamp.mtime,
            size: 0,
            kind,
            name: Bytes::copy_from_slice(slot.name),
            data: Bytes::new(),
        };
        self.nodes.insert(inode, Node::new(entry));
        self.attach(inode);
        Ok(inode)
    }

    /// Takes an entry without children out of the tree.
    pub(super) fn remove(&mut self, inode: u64, changes: &mut Vec<Change>) {
        self.keep_last(inode);
        self.detach(inode);
        let is_private = self.is_private(inode);
        let Some(node) = self.nodes.remove(&inode) else {
            return;
        };
        let entry = node.entry();
        self.size_total -= u64::from(entry.size);
        self.locks.forget(inode);
        changes.push(Change::Removed {
            inode,
            parent: entry.parent,
            name: entry.name.clone(),
        });
        self.handles.bury(node, is_private);
    }

    /// Enters an entry in its directory.
    pub(super) fn attach(&mut self, inode: u64) {
        let entry = self.nodes[&inode].entry();
        let (parent, name) = (entry.parent, entry.name.clone());
        let privacy = self.privacy(parent).map(|privacy| privacy.child(&name));
        if let Some(directory) = &mut self.node_mut(inode).directory {
            directory.privacy = privacy;
        }
        self.change_children(parent, |directory| {
            directory.children.insert(name, inode);
        });
    }

    /// Takes an entry out of its directory.
    pub(super) fn detach(&mut self, inode: u64) {
        let entry = self.nodes[&inode].entry();
        let (parent, name) = (entry.parent, entry.name.clone());
        self.change_children(parent, |directory| {
            directory.children.remove(&name);
        });
    }

    fn change_children(&mut self, parent: u64, change: impl FnOnce(&mut Directory)) {
        if let Some(directory) = &mut self.node_mut(parent).directory {
            directory.listing.take();
            change(directory);
        }
    }

    pub(super) fn node_mut(&mut self, inode: u64) -> &mut Node {
        self.nodes
            .get_mut(&inode)
            .expect("the inode comes from the tree")
    }
}
