//! What all requests share, and the requests that only look.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{Change, EntryKind, MemDb, Observer, Statfs, Submit, Tree};

use super::answers::Answers;
use super::attributes::Attributes;
use super::handles::{Bound, Handle, Handles};
use super::names::{ChangedBy, NameTable};
use super::node::{Node, ROOT_ID, plugin_id};
use super::plugins::{Content, Plugin, Plugins};
use super::tables::{HandleRecord, Kept, KeptArea, Opened, Orphan, Tables};
use super::ways::{Place, Want};

/// Longest name in bytes. Newer kernels let longer ones pass, the C daemon's never did.
const MAX_NAME_LENGTH: usize = 1024;

/// Makes the kernel ask anew for the attributes of a node id.
type ForgetAttributes = Box<dyn Fn(u64) + Send + Sync>;

/// The filesystem that is mounted at `/etc/pve`.
pub struct Filesystem {
    pub(super) db: Arc<MemDb>,
    pub(super) submit: Submit,
    pub(super) plugins: Plugins,
    quorate: Box<dyn Fn() -> bool + Send + Sync>,
    pub(super) gid: u32,
    pub(super) names: NameTable,
    pub(super) handles: Handles,
    pub(super) answers: Answers,
    kept: KeptArea,
    /// Set when somebody is there to be told.
    forget_attributes: OnceLock<ForgetAttributes>,
}

impl Filesystem {
    /// `submit` takes changes to where they are made. `quorate` is asked for every mode, so it must be cheap. `gid` owns
    /// everything. `tables` are what the kernel knows from a former process, or empty.
    pub fn new(
        db: Arc<MemDb>,
        submit: Submit,
        plugins: Plugins,
        quorate: Box<dyn Fn() -> bool + Send + Sync>,
        gid: u32,
        tables: Tables,
    ) -> Arc<Self> {
        let names = NameTable::new(tables.names, db.loaded_version());
        let kept = tables.kept;
        let handles = Handles::new(tables.handles, |record| {
            reopen(&db, &names, &plugins, &kept, record)
        });
        names.drop_all_unused();
        let answers = Answers::new(tables.answers, db.loaded_version());
        // It counts for nothing from now on; its memory may stay.
        let _freed = tables.kept_area.clear();
        Arc::new(Self {
            db,
            submit,
            plugins,
            quorate,
            gid,
            names,
            handles,
            answers,
            kept: tables.kept_area,
            forget_attributes: OnceLock::new(),
        })
    }

    /// The node ids that the kernel may know from a former process.
    pub fn known_ids(&self) -> Vec<u64> {
        self.names.known_ids()
    }

    /// Hands over to another process what a kill would lose: the content of files that were removed while they are open, texts of
    /// generated files and listings. Call when every request is answered and none is taken any more.
    ///
    /// # Errors
    /// If there is no memory for it. A handle on what is lost answers `ESTALE` in the other process then.
    pub fn prepare_change(&self) -> io::Result<()> {
        let mut kept = Kept::default();
        let tree = self.db.read();
        self.handles.visit(|number, handle| {
            match handle {
                Handle::Plugin { text, .. } => drop(kept.texts.insert(number, text.clone())),
                Handle::Entry { listing, .. } => {
                    let listing = listing.clone().map(|listing| (number, listing));
                    kept.listings.extend(listing);
                }
            }
            if let Some((_, bound)) = handle.name()
                && tree.is_orphan(bound.inode)
                && let Ok(entry) = bound.entry(&tree)
            {
                let orphan = Orphan {
                    entry: entry.clone(),
                    is_private: tree.is_private(bound.inode),
                };
                kept.orphans.insert(bound.inode, orphan);
            }
        });
        drop(tree);
        self.kept.keep(&kept)
    }

    /// Looks a name up. The kernel knows the node id of the answer until it [forgets](Self::forget) it.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory` below a plugin, `NameTooLong`; `Stale` if the directory's name has to be looked up first.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attributes> {
        let parent = directory(parent)?;
        if let Some((index, plugin)) = self.plugin_in(parent, name) {
            return Ok(self.plugin_attributes(index, plugin, None));
        }
        check_length(name)?;
        let tree = self.db.read();
        let (id, inode) = self.names.look_up(&tree, parent, name)?;
        self.entry_attributes(&tree, id, inode)
    }

    /// The kernel takes back `count` answers that named a node id.
    pub fn forget(&self, id: u64, count: u64) {
        if let Node::Name(id) = Node::of(id) {
            self.names.forget(id, count);
        }
    }

    /// What `stat` shows of a node id, or of what is open by it if a handle is given.
    ///
    /// # Errors
    /// `NotFound`; `Stale` if the name has to be looked up first.
    pub fn attributes(&self, id: u64, handle: Option<u64>) -> Result<Attributes> {
        let handle = handle.and_then(|handle| self.handles.get(handle).ok());
        match (Node::of(id), handle) {
            (Node::Plugin(index), handle) => {
                let size = match handle {
                    Some(Handle::Plugin { text, .. }) => Some(text.len()),
                    _ => None,
                };
                Ok(self.plugin_attributes(index, self.plugin(index)?, size))
            }
            (Node::Name(id), Some(Handle::Entry { bound, .. })) => {
                let tree = self.db.read();
                let inode = bound.entry(&tree)?.inode;
                self.entry_attributes(&tree, id, inode)
            }
            (Node::Name(id), _) => {
                let tree = self.db.read();
                let inode = self.names.of(&tree).target(&tree, id, Want::Attributes)?;
                self.entry_attributes(&tree, id, inode)
            }
        }
    }

    /// Target of a link.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn link_target(&self, id: u64) -> Result<&str> {
        let plugin = match Node::of(id) {
            Node::Plugin(index) => self.plugins.at(index),
            Node::Name(_) => None,
        };
        match plugin.map(|plugin| &plugin.content) {
            Some(Content::Link(target)) => Ok(target),
            Some(Content::File(_)) | None => Err(FsError::Invalid),
        }
    }

    /// Size and use.
    pub fn usage(&self) -> Statfs {
        self.db.read().statfs()
    }

    /// Calls `done` when everything done so far is on the disk.
    pub fn sync(&self, done: impl FnOnce(Result<()>) + Send + 'static) {
        self.db.sync(done);
    }

    /// Whoever calls this is told from now on which node ids show attributes that have changed.
    pub fn on_changed_attributes(&self, forget: impl Fn(u64) + Send + Sync + 'static) {
        // There is one mount.
        let _first = self.forget_attributes.set(Box::new(forget));
    }

    /// Makes the kernel ask anew for the attributes of node ids, so that the next `stat` shows them. One system call each.
    /// Call when the change can be seen, with nothing locked.
    pub(super) fn tell_changed(&self, ids: &[u64]) {
        if let Some(forget) = self.forget_attributes.get() {
            for id in ids {
                forget(*id);
            }
        }
    }

    /// Attributes of an entry that exists or that an open handle keeps.
    pub(super) fn entry_attributes(&self, tree: &Tree, id: u64, inode: u64) -> Result<Attributes> {
        let entry = tree.node(inode).ok_or(FsError::NotFound)?;
        let is_private = tree.is_private(inode);
        let mut attributes =
            Attributes::of_entry(id, entry, self.gid, is_private, (self.quorate)());
        if tree.is_orphan(inode) {
            attributes.link_count = 0;
        }
        Ok(attributes)
    }

    fn plugin_attributes(&self, index: usize, plugin: &Plugin, size: Option<usize>) -> Attributes {
        plugin.attributes(plugin_id(index), self.gid, (self.quorate)(), size)
    }

    pub(super) fn plugin(&self, index: usize) -> Result<&Plugin> {
        self.plugins.at(index).ok_or(FsError::NotFound)
    }

    fn plugin_in(&self, parent: u64, name: &[u8]) -> Option<(usize, &Plugin)> {
        match parent {
            ROOT_ID => self.plugins.find(name),
            _ => None,
        }
    }

    /// A name in a directory of the tree that a change is about.
    ///
    /// # Errors
    /// `taken` if a plugin has it; `NotDirectory` below a plugin, `NameTooLong`.
    pub(super) fn place(&self, parent: u64, name: &[u8], taken: FsError) -> Result<Place> {
        let parent = directory(parent)?;
        check_length(name)?;
        if self.plugin_in(parent, name).is_some() {
            return Err(taken);
        }
        let name = Bytes::copy_from_slice(name);
        Ok(Place { parent, name })
    }
}

impl Observer for Filesystem {
    fn applied(&self, changes: &[Change]) -> Vec<u64> {
        self.names.changed(changes, ChangedBy::Others)
    }

    fn replacing(&self, present: &Tree, new: &Tree) {
        // A kill after this is stored must not leave them where they lead to another entry.
        self.handles
            .lose(|bound| present.is_reused_by(new, bound.inode));
    }

    fn replaced(&self, tree: &Tree, touched: &BTreeSet<u64>) -> Vec<u64> {
        // Those that were opened meanwhile.
        let is_stale = |bound: Bound| bound.entry(tree) == Err(FsError::Stale);
        self.handles.lose(is_stale);
        self.names.ids_of(touched)
    }

    fn unlocked(&self, shown: &[u64]) {
        self.tell_changed(shown);
    }
}

/// Opens again what a former process has opened, if it still exists.
fn reopen(
    db: &MemDb,
    names: &NameTable,
    plugins: &Plugins,
    kept: &Kept,
    record: &HandleRecord,
) -> Handle {
    let kind = match record.opened {
        Opened::File => EntryKind::File,
        Opened::Directory => EntryKind::Directory,
        Opened::Plugin => {
            let index = usize::try_from(record.id).unwrap_or(usize::MAX);
            let content = plugins.at(index).map(|plugin| &plugin.content);
            let text = match (kept.texts.get(&record.number), content) {
                (Some(text), _) => text.clone(),
                (None, Some(Content::File(file))) => file.render(),
                (None, _) => Bytes::new(),
            };
            return Handle::Plugin { index, text };
        }
    };
    let bound = db.with_pins(|tree| {
        let orphan = record.inode.and_then(|inode| kept.orphans.get(&inode));
        if let Some(Orphan { entry, is_private }) = orphan
            && tree.node(entry.inode).is_none()
        {
            tree.restore_orphan(entry.clone(), *is_private);
        }
        let inode = record.inode.filter(|inode| tree.pin(*inode, record.uid));
        inode.map_or(Bound::GONE, |inode| Bound::new(tree, inode))
    });
    names.reopen(record.id, bound);
    Handle::Entry {
        kind,
        id: record.id,
        bound,
        listing: kept.listings.get(&record.number).cloned(),
    }
}

/// Node id of a directory of the tree. Nothing lies below a plugin.
pub(super) fn directory(id: u64) -> Result<u64> {
    match Node::of(id) {
        Node::Name(id) => Ok(id),
        Node::Plugin(_) => Err(FsError::NotDirectory),
    }
}

fn check_length(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME_LENGTH {
        return Err(FsError::NameTooLong);
    }
    Ok(())
}
