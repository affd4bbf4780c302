//! The tree in memory.
//!
//! A plain struct: no lock, no I/O, no clock. Whoever owns it guards it, keeps it on disk, and brings the time along.
//! [`Tree::apply`] is the only way in which entries change; every node of a cluster applies the same operations in the
//! same order and must end up with the same tree, so nothing in there may depend on local knowledge. What may, is in
//! [`Tree::check_before_send`].
//!
//! Each directory keeps what requests ask for again and again: the inodes of its children by name, which of them are
//! private (only empty directories can be renamed, so that never goes stale below), and its listing. Nothing keeps a path:
//! in a deep tree the paths of all directories together would be large, and one is put together where it is needed.

mod before_send;
mod digests;
mod former;
mod handles;
mod load;
mod locking;
mod mutate;
mod node;
mod pins;
mod rename;
mod scan;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use pmxcfs_api_types::{
    FsError, Result,
    path::{self, is_reserved_name},
};

use crate::{
    entry::{Entry, EntryKind, ROOT_INODE, RootState},
    finding::Finding,
    guests::{GuestList, GuestRegister},
    locks::LockTable,
    statfs::Statfs,
    store::Former,
    versions::{FileVersions, VERSIONED_PATH_COUNT},
};
pub use before_send::Precheck;
pub use digests::Snapshot;
pub use node::ListedEntry;
use node::{Directory, Node, Privacy};
use pins::Handles;

/// Which rules operations follow where the C daemon's are known to do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// One node on its own: harmful rules are mended.
    Local,
    /// One of several nodes that may run the C daemon: operations have the effects that they have there.
    Replicated,
}

/// All entries, with everything that is derived from them.
#[derive(Debug)]
pub struct Tree {
    rules: Rules,
    nodes: BTreeMap<u64, Node>,
    /// Sum of the sizes of all entries.
    size_total: u64,
    guests: GuestRegister,
    versions: FileVersions,
    locks: LockTable,
    handles: Handles,
    former: FormerContents,
    warnings: Vec<Finding>,
}

/// Contents that a history wants, and what was set aside for it.
#[derive(Debug, Default)]
struct FormerContents {
    /// A history takes what is set aside.
    is_wanted: bool,
    /// Files whose content is set aside before their next change.
    inodes: HashSet<u64>,
    taken: Vec<Former>,
}

/// A name in a directory that exists.
#[derive(Debug, Clone, Copy)]
struct Slot<'a> {
    parent: u64,
    name: &'a [u8],
    /// The entry that has the name.
    occupant: Option<u64>,
}

impl Tree {
    /// An empty tree: no counter moved, no guest.
    pub fn new(root: RootState, rules: Rules) -> Self {
        let entry = Entry {
            inode: ROOT_INODE,
            parent: ROOT_INODE,
            version: root.version,
            writer: root.writer,
            mtime: root.mtime,
            size: 0,
            kind: EntryKind::Directory,
            name: Bytes::new(),
            data: Bytes::new(),
        };
        let mut node = Node::new(entry);
        node.directory = Some(Box::new(Directory::root()));
        Self {
            rules,
            nodes: BTreeMap::from([(ROOT_INODE, node)]),
            size_total: 0,
            guests: GuestRegister::default(),
            versions: FileVersions::new(),
            locks: LockTable::default(),
            handles: Handles::default(),
            former: FormerContents::default(),
            warnings: Vec::new(),
        }
    }

    /// Version, writer and mtime of the last change.
    pub fn root(&self) -> RootState {
        let entry = self.nodes[&ROOT_INODE].entry();
        RootState {
            version: entry.version,
            writer: entry.writer,
            mtime: entry.mtime,
        }
    }

    /// The rules that operations follow.
    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// Number of entries, the root included.
    pub fn entry_count(&self) -> usize {
        self.nodes.len()
    }

    /// All entries in ascending order of inodes, the root first. Also those that no path leads to.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.values().map(Node::entry)
    }

    /// All inodes above this one, in ascending order.
    pub fn inodes_above(&self, inode: u64) -> impl Iterator<Item = u64> {
        let above = (Bound::Excluded(inode), Bound::Unbounded);
        self.nodes.range(above).map(|(inode, _)| *inode)
    }

    /// The entry with this inode. The root is a directory with inode 0 and an empty name.
    pub fn entry(&self, inode: u64) -> Option<&Entry> {
        self.nodes.get(&inode).map(Node::entry)
    }

    /// The entry with this name in a directory.
    pub fn child(&self, parent: u64, name: &[u8]) -> Option<&Entry> {
        self.entry(self.child_inode(parent, name)?)
    }

    /// The entry at a path.
    ///
    /// `.` alone, the empty path and slashes alone are the root. Empty components are skipped; `.` and `..` inside of a
    /// path are names like others, which normally do not exist.
    pub fn lookup(&self, path: &[u8]) -> Option<&Entry> {
        self.entry(self.resolve(path)?)
    }

    /// Path of an entry, without leading slash. Empty for the root; absent if no path leads there.
    pub fn path_of(&self, inode: u64) -> Option<Bytes> {
        let entry = self.entry(inode)?;
        self.path_in(entry.parent, &entry.name)
    }

    /// Path that a name in a directory has, whether or not anything has it. The empty name stands for the root; absent if no path
    /// leads to the directory.
    pub fn path_in(&self, directory: u64, name: &[u8]) -> Option<Bytes> {
        // Ends, since it says that a chain of directories leads there.
        self.privacy(directory)?;
        let up = |entry: &&Entry| self.entry(entry.parent);
        let above = || {
            let directories = std::iter::successors(self.entry(directory), up);
            directories.take_while(|it| it.inode != ROOT_INODE)
        };
        let length = above().fold(name.len(), |sum, it| sum + 1 + it.name.len());
        let mut path = vec![b'/'; length];
        let mut end = length - name.len();
        path[end..].copy_from_slice(name);
        for entry in above() {
            let start = end - 1 - entry.name.len();
            path[start..end - 1].copy_from_slice(&entry.name);
            end = start;
        }
        Some(path.into())
    }

    /// Whether only root may read an entry: `priv`, the same below each node's directory, and everything inside. An
    /// entry that no path leads to counts as private.
    pub fn is_private(&self, inode: u64) -> bool {
        match self.nodes.get(&inode) {
            Some(node) => self.is_private_node(node),
            None => self.handles.is_private(inode),
        }
    }

    /// The entries of a directory, in order of their inodes, the oldest first. Built at the first call after a change of the directory.
    /// Empty for a directory that was deleted while it is pinned.
    pub fn listing(&self, inode: u64) -> Option<Arc<[ListedEntry]>> {
        let Some(node) = self.nodes.get(&inode) else {
            let orphan = self.handles.orphan(inode)?;
            return (orphan.kind == EntryKind::Directory).then(|| Arc::from([]));
        };
        let directory = node.directory.as_ref()?;
        let listing = directory.listing.get_or_init(|| {
            let listed = directory.children.values().map(|child| {
                let entry = self.nodes[child].entry();
                ListedEntry {
                    inode: entry.inode,
                    kind: entry.kind,
                    name: entry.name.clone(),
                }
            });
            let mut listed: Vec<ListedEntry> = listed.collect();
            listed.sort_unstable_by_key(|entry| entry.inode);
            listed.into()
        });
        Some(Arc::clone(listing))
    }

    /// Size and use of the filesystem.
    pub fn statfs(&self) -> Statfs {
        Statfs::new(self.size_total, self.count())
    }

    /// The guest list.
    pub const fn guests(&self) -> &GuestList {
        &self.guests.list
    }

    /// The change counters, in the order of [`VERSIONED_PATHS`](pmxcfs_api_types::names::VERSIONED_PATHS).
    pub const fn file_versions(&self) -> &[u32; VERSIONED_PATH_COUNT] {
        &self.versions.counters
    }

    /// A number that changes whenever any of the change counters does.
    pub const fn versions_generation(&self) -> u64 {
        self.versions.generation
    }

    /// What an operator should know about the entries that the tree was built from.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    fn count(&self) -> u64 {
        u64::try_from(self.nodes.len()).unwrap_or(u64::MAX)
    }

    fn resolve(&self, path: &[u8]) -> Option<u64> {
        if path == b"." {
            return Some(ROOT_INODE);
        }
        path::components(path).try_fold(ROOT_INODE, |inode, name| self.child_inode(inode, name))
    }

    fn child_inode(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.directory(parent)?.children.get(name).copied()
    }

    fn directory(&self, inode: u64) -> Option<&Directory> {
        self.nodes.get(&inode)?.directory.as_deref()
    }

    /// Which children of a directory are private. Absent if no chain of directories leads to it from the root.
    fn privacy(&self, inode: u64) -> Option<Privacy> {
        self.directory(inode)?.privacy
    }

    fn kind(&self, inode: u64) -> EntryKind {
        self.nodes[&inode].entry().kind
    }

    fn has_children(&self, inode: u64) -> bool {
        self.directory(inode)
            .is_some_and(|directory| !directory.children.is_empty())
    }

    /// The directory and base name of a path: the directory must exist and be one, the name may be taken or free.
    fn slot<'a>(&self, path: &'a [u8]) -> Result<Slot<'a>> {
        let (directory, name) = path::split(path);
        let parent = self.resolve(directory).ok_or(FsError::NotFound)?;
        if self.kind(parent) != EntryKind::Directory {
            return Err(FsError::NotDirectory);
        }
        if is_reserved_name(name) {
            return Err(FsError::Access);
        }
        Ok(Slot {
            parent,
            name,
            occupant: self.child_inode(parent, name),
        })
    }

    fn is_private_node(&self, node: &Node) -> bool {
        match &node.directory {
            Some(directory) => directory
                .privacy
                .is_none_or(|privacy| privacy == Privacy::All),
            None => self
                .privacy(node.entry().parent)
                .is_none_or(|privacy| privacy.covers_child(&node.entry().name)),
        }
    }
}
