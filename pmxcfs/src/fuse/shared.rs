//! What all requests share, and the parts of requests that only read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo, Notifier};
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{EntryKind, MemDb, ROOT_INODE, Submit, Tree};

use super::attr::{Ownership, accepted_chmod};
use super::handles::{Handle, Handles, epoch_of, tree_file};
use super::inodes::{InodeMap, Node};
use super::lookups::Lookups;
use super::walks::{Lookup, Walks};
use crate::health::FuseOperation;
use crate::health::counters::Meter;
use crate::plugins::{Content, Plugin, Registry};

/// A file that has been opened, and is pinned if it is one of the tree.
pub(super) enum Opened {
    Now(FileHandle),
    /// An entry whose content has to go first.
    WhenCut(Pinned),
}

/// An entry that is pinned for a handle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinned {
    pub(super) inode: u64,
    /// Of the tree, when it was pinned.
    pub(super) epoch: u64,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) db: Arc<MemDb>,
    pub(super) submit: Submit,
    pub(super) plugins: Registry,
    pub(super) quorate: Box<dyn Fn() -> bool + Send + Sync>,
    pub(super) ownership: Ownership,
    pub(super) inodes: InodeMap,
    pub(super) handles: Handles,
    pub(super) lookups: Lookups,
    pub(super) walks: Walks,
    /// Tells the kernel what it has not asked for. Set when the session runs.
    pub(super) notifier: OnceLock<Notifier>,
    pub(super) meter: &'static Meter<FuseOperation>,
}

impl Shared {
    /// Attributes of an entry that exists or that an open handle keeps.
    pub(super) fn entry_attr(&self, tree: &Tree, inode: u64) -> Option<FileAttr> {
        let entry = tree.node(inode)?;
        let number = self.inodes.number(Node::Tree(inode));
        let private = tree.is_private(inode);
        let mut attr = self
            .ownership
            .of_entry(number, entry, private, (self.quorate)());
        if tree.is_orphan(inode) {
            attr.nlink = 0;
        }
        Some(attr)
    }

    fn plugin_attr(&self, index: usize, plugin: &Plugin, size: Option<u64>) -> FileAttr {
        let number = self.inodes.number(Node::Plugin(index));
        let (kind, perm, present) = match plugin.content() {
            Content::Link(target) => {
                let perm = if (self.quorate)() { 0o755 } else { 0o555 };
                (FileType::Symlink, perm, target.len())
            }
            Content::File(file) => {
                let size = if size.is_some() {
                    0
                } else {
                    file.render().len()
                };
                (FileType::RegularFile, file.mode(), size)
            }
        };
        self.ownership
            .of_plugin(number, kind, perm, size.unwrap_or(present as u64))
    }

    fn plugin_in(&self, parent: u64, name: &[u8]) -> Option<(usize, &Plugin)> {
        if parent == ROOT_INODE {
            self.plugins.find(name)
        } else {
            None
        }
    }

    /// Entry of the tree that a directory's number stands for. Nothing lies below a plugin.
    pub(super) fn directory(&self, number: INodeNo) -> Result<u64, FsError> {
        match self.inodes.node(number) {
            Some(Node::Tree(inode)) => Ok(inode),
            Some(Node::Plugin(_)) => Err(FsError::NotDirectory),
            None => Err(FsError::NotFound),
        }
    }

    pub(super) fn plugin(&self, index: usize) -> Result<&Plugin, FsError> {
        self.plugins.at(index).ok_or(FsError::NotFound)
    }

    /// A name in a directory of the tree that no plugin holds.
    pub(super) fn free_of_plugins(
        &self,
        parent: INodeNo,
        name: &OsStr,
        taken: FsError,
    ) -> Result<(u64, Bytes), FsError> {
        let parent = self.directory(parent)?;
        let name = name.as_bytes();
        check_length(name)?;
        if self.plugin_in(parent, name).is_some() {
            return Err(taken);
        }
        Ok((parent, Bytes::copy_from_slice(name)))
    }

    pub(super) fn lookup_attr(
        &self,
        parent: INodeNo,
        name: &OsStr,
        thread: u32,
    ) -> Result<(FileAttr, bool), FsError> {
        let parent = self.directory(parent)?;
        let name = name.as_bytes();
        if let Some((index, plugin)) = self.plugin_in(parent, name) {
            return Ok((self.plugin_attr(index, plugin, None), true));
        }
        check_length(name)?;
        let tree = self.db.read();
        let entry = tree.child(parent, name);
        let lookup = Lookup {
            directory: parent,
            name,
            is_there: entry.is_some(),
        };
        self.walks.looked_up(thread, &lookup);
        let inode = entry.ok_or_else(|| missing_in(&tree, parent))?.inode;
        let attr = self.entry_attr(&tree, inode).ok_or(FsError::NotFound)?;
        self.lookups.add(inode);
        Ok((attr, false))
    }

    pub(super) fn attr_of(
        &self,
        number: INodeNo,
        handle: Option<FileHandle>,
        thread: u32,
    ) -> Result<(FileAttr, bool), FsError> {
        match self.inodes.node(number) {
            Some(Node::Tree(inode)) => {
                let tree = self.db.read();
                // The kernel does not tell whether it is asked for a path or for an open file.
                if handle.is_none() && !self.is_open_orphan(&tree, inode) {
                    self.pass(&tree, inode, thread)?;
                }
                let attr = self.entry_attr(&tree, inode);
                attr.map(|attr| (attr, false)).ok_or(FsError::NotFound)
            }
            Some(Node::Plugin(index)) => {
                let size = handle
                    .and_then(|handle| self.handles.snapshot(handle))
                    .map(|text| text.len() as u64);
                Ok((self.plugin_attr(index, self.plugin(index)?, size), true))
            }
            None => Err(FsError::NotFound),
        }
    }

    /// Whether what a path walk of this thread has led to may be opened or cut.
    ///
    /// # Errors
    /// `Stale` if the kernel took a name for granted and what it stood for has been removed, replaced or renamed since: the
    /// walk begins again.
    pub(super) fn end_walk(&self, tree: &Tree, inode: u64, thread: u32) -> Result<(), FsError> {
        let is_gone = tree.node(inode).is_none();
        let is_doubtful = tree.is_orphan(inode) || self.walks.is_distrusted(inode);
        if is_gone || (is_doubtful && self.walks.begin_again(thread, inode)) {
            return Err(FsError::Stale);
        }
        self.walks.end(thread);
        Ok(())
    }

    /// The same for a node. Gives the epoch of the tree in which it stands for what the walk has led to.
    pub(super) fn end_walk_at(&self, node: Node, thread: u32) -> Result<u64, FsError> {
        let Node::Tree(inode) = node else {
            return Ok(u64::MAX);
        };
        let tree = self.db.read();
        self.end_walk(&tree, inode, thread)?;
        Ok(tree.epoch())
    }

    /// The same for something on the way.
    fn pass(&self, tree: &Tree, inode: u64, thread: u32) -> Result<(), FsError> {
        let is_gone = tree.node(inode).is_none();
        if is_gone || (tree.is_orphan(inode) && self.walks.begin_again_midway(thread, inode)) {
            return Err(FsError::Stale);
        }
        Ok(())
    }

    fn is_open_orphan(&self, tree: &Tree, inode: u64) -> bool {
        let pins_of_kernel = || u64::from(self.lookups.is_pinned(inode));
        tree.is_orphan(inode) && tree.pin_count(inode) > pins_of_kernel()
    }

    /// The parts of a setattr that change nothing: `chmod` and `chown` to what is there already.
    pub(super) fn check_ownership(
        &self,
        node: Node,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), FsError> {
        if let Some(mode) = mode {
            let private = match node {
                Node::Tree(inode) => self.db.read().is_private(inode),
                Node::Plugin(_) => false,
            };
            if mode & 0o7777 != accepted_chmod(private) {
                return Err(FsError::NotPermitted);
            }
        }
        let kept =
            uid.is_none_or(|uid| uid == 0) && gid.is_none_or(|gid| gid == self.ownership.gid);
        if kept {
            Ok(())
        } else {
            Err(FsError::NotPermitted)
        }
    }

    /// Opens a file; `is_to_be_cut` stands for `O_TRUNC`.
    pub(super) fn opened(
        &self,
        number: INodeNo,
        thread: u32,
        is_to_be_cut: bool,
    ) -> Result<Opened, FsError> {
        match self.inodes.node(number).ok_or(FsError::NotFound)? {
            Node::Tree(inode) => {
                let pinned = self.pin_fresh(inode, thread)?;
                if is_to_be_cut {
                    return Ok(Opened::WhenCut(pinned));
                }
                Ok(Opened::Now(tree_file(pinned.epoch)))
            }
            Node::Plugin(index) => match self.plugin(index)?.content() {
                Content::File(file) => {
                    if is_to_be_cut {
                        file.truncate()?;
                    }
                    let snapshot = Handle::Snapshot(file.render());
                    Ok(Opened::Now(self.handles.insert(snapshot)))
                }
                Content::Link(_) => Err(FsError::Access),
            },
        }
    }

    pub(super) fn opened_directory(
        &self,
        number: INodeNo,
        thread: u32,
    ) -> Result<FileHandle, FsError> {
        let inode = self.directory(number)?;
        self.pin_fresh(inode, thread)?;
        Ok(self.handles.insert(Handle::Directory(None)))
    }

    /// Ends what [`Shared::opened`] or [`Shared::opened_directory`] began.
    pub(super) fn closed(&self, number: INodeNo, handle: FileHandle) {
        self.handles.remove(handle);
        if let Some(Node::Tree(inode)) = self.inodes.node(number) {
            self.db.unpin(inode);
        }
    }

    fn pin_fresh(&self, inode: u64, thread: u32) -> Result<Pinned, FsError> {
        let mut epoch = 0;
        self.db.pin_if(inode, |tree| {
            epoch = tree.epoch();
            self.end_walk(tree, inode, thread)
        })?;
        Ok(Pinned { inode, epoch })
    }

    pub(super) fn content(&self, number: INodeNo, handle: FileHandle) -> Result<Bytes, FsError> {
        match self.inodes.node(number).ok_or(FsError::NotFound)? {
            Node::Tree(inode) => {
                let tree = self.db.read();
                let entry = tree.node(inode).ok_or(FsError::NotFound)?;
                if tree.is_reused_since(inode, epoch_of(handle)) {
                    return Err(FsError::Stale);
                }
                match entry.kind {
                    EntryKind::File => Ok(entry.content()),
                    EntryKind::Directory => Err(FsError::IsDirectory),
                }
            }
            Node::Plugin(_) => self.handles.snapshot(handle).ok_or(FsError::Io),
        }
    }

    pub(super) fn write_plugin(
        &self,
        index: usize,
        offset: u64,
        data: &[u8],
    ) -> Result<u32, FsError> {
        match self.plugin(index)?.content() {
            Content::File(file) => file.write(offset, data),
            Content::Link(_) => Err(FsError::Access),
        }
    }
}

/// Longest name in bytes. Newer kernels let longer ones pass, the C daemon's never did.
const MAX_NAME_LENGTH: usize = 1024;

fn check_length(name: &[u8]) -> Result<(), FsError> {
    if name.len() > MAX_NAME_LENGTH {
        return Err(FsError::NameTooLong);
    }
    Ok(())
}

/// The number that the kernel gets for an error.
pub(super) fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno())
}

/// Why a directory has no entry of some name: it may be gone without a trace.
pub(super) fn missing_in(tree: &Tree, directory: u64) -> FsError {
    match tree.node(directory) {
        Some(_) => FsError::NotFound,
        None => FsError::Stale,
    }
}
