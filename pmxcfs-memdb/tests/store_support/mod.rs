//! A small tree to drive the store with, and ways to look at what the store left behind.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod broken;
pub(crate) mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::{
    Access, EntryLookup, EntrySource, Loaded, Store, StoreConfig, StoreHandle, Synchronisation,
    Ticket, examine,
};
use pmxcfs_memdb::{Change, Entry, EntryKind, RootState};

/// How long a test waits for something that is certain to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Entries and root state: what a database stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) root: RootState,
    pub(crate) entries: BTreeMap<u64, Entry>,
}

impl State {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        Self {
            root: loaded.root,
            entries: loaded
                .entries
                .iter()
                .map(|entry| (entry.inode, entry.clone()))
                .collect(),
        }
    }

    fn step(&mut self) -> u64 {
        self.root.version += 1;
        self.root.mtime = self.root.mtime.wrapping_add(3);
        self.root.writer = 7;
        self.root.version
    }

    /// What differs from a former state.
    pub(crate) fn rows_against(&self, former: &Self) -> Vec<(u64, Option<Entry>)> {
        let inodes = self.entries.keys().chain(former.entries.keys());
        let inodes: BTreeSet<u64> = inodes.copied().collect();
        inodes
            .into_iter()
            .filter(|inode| self.entries.get(inode) != former.entries.get(inode))
            .map(|inode| (inode, self.entries.get(&inode).cloned()))
            .collect()
    }

    /// Makes an entry.
    pub(crate) fn create(&mut self, name: &[u8], kind: EntryKind) -> (u64, Vec<Change>) {
        let inode = self.step();
        self.entries.insert(
            inode,
            Entry {
                inode,
                parent: 0,
                version: inode,
                writer: self.root.writer,
                mtime: self.root.mtime,
                size: 0,
                kind,
                name: Bytes::copy_from_slice(name),
                data: Bytes::new(),
            },
        );
        (inode, vec![Change::Put { inode }])
    }

    /// Writes to a file; with `truncate` the file ends behind the data.
    pub(crate) fn write(
        &mut self,
        inode: u64,
        offset: u32,
        data: &[u8],
        truncate: bool,
    ) -> Vec<Change> {
        let version = self.step();
        let root = self.root;
        let entry = self.entries.get_mut(&inode).expect("the test made it");
        let end = offset as usize + data.len();
        let mut content = entry.data.to_vec();
        let keep = if truncate {
            content.len().min(end)
        } else {
            content.len()
        };
        content.resize(if truncate { end } else { end.max(keep) }, 0);
        content[offset as usize..end].copy_from_slice(data);
        entry.data = content.into();
        entry.size = u32::try_from(entry.data.len()).expect("tests write small files");
        (entry.version, entry.writer, entry.mtime) = (version, root.writer, root.mtime);
        vec![Change::Content {
            inode,
            keep: u32::try_from(keep).expect("tests write small files"),
            offset,
            data: Bytes::copy_from_slice(data),
            size: entry.size,
        }]
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, inode: u64) -> Vec<Change> {
        self.step();
        vec![self.drop_silently(inode)]
    }

    /// Removes an entry without a version step, as a failed rename of a C daemon does.
    pub(crate) fn drop_silently(&mut self, inode: u64) -> Change {
        let entry = self.entries.remove(&inode).expect("the test made it");
        Change::Removed {
            inode,
            parent: entry.parent,
            name: entry.name,
        }
    }

    /// Gives an entry another name, over the one that has it.
    pub(crate) fn rename(&mut self, inode: u64, name: &[u8]) -> Vec<Change> {
        let version = self.step();
        let mut changes = Vec::new();
        let target = self
            .entries
            .values()
            .find(|entry| entry.name == name && entry.inode != inode);
        if let Some(target) = target.map(|target| target.inode) {
            changes.push(self.drop_silently(target));
        }
        let root = self.root;
        let entry = self.entries.get_mut(&inode).expect("the test made it");
        entry.name = Bytes::copy_from_slice(name);
        (entry.version, entry.writer, entry.mtime) = (version, root.writer, root.mtime);
        changes.push(Change::Put { inode });
        changes
    }
}

/// A tree with its store.
pub(crate) struct Fixture {
    pub(crate) tree: Arc<Tree>,
    pub(crate) store: Arc<StoreHandle>,
}

/// The state under a lock, as the store's thread reads it.
pub(crate) struct Tree(pub(crate) RwLock<State>);

impl EntrySource for Tree {
    fn with_entries(&self, visit: &mut dyn FnMut(RootState, EntryLookup<'_>)) {
        let state = self.0.read();
        visit(state.root, &|inode| state.entries.get(&inode).cloned());
    }

    fn inodes_above(&self, inode: u64, count: usize) -> Vec<u64> {
        let state = self.0.read();
        let mut inodes: Vec<u64> = state.entries.keys().copied().collect();
        inodes.retain(|other| *other > inode);
        inodes.sort_unstable();
        inodes.truncate(count);
        inodes
    }
}

impl Fixture {
    /// Opens a store and starts it.
    pub(crate) fn open(config: StoreConfig) -> Self {
        let (store, loaded) = Store::open(config).expect("the database is good");
        Self::start(store, &loaded)
    }

    pub(crate) fn start(store: Store, loaded: &Loaded) -> Self {
        let tree = Arc::new(Tree(RwLock::new(State::of(loaded))));
        let store = store
            .start(Arc::clone(&tree) as Arc<dyn EntrySource>)
            .expect("a thread");
        Self { tree, store }
    }

    /// Applies a change and records it.
    pub(crate) fn record<R>(
        &self,
        change: impl FnOnce(&mut State) -> (R, Vec<Change>),
    ) -> (R, Ticket) {
        let mut state = self.tree.0.write();
        let (result, changes) = change(&mut state);
        let ticket = self
            .store
            .record(state.root, &changes, &|inode| state.entries.get(&inode));
        (result, ticket)
    }

    /// Waits until an operation is acknowledged.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<(), FsError> {
        wait(|done| self.store.acknowledge(ticket, done))
    }

    /// Waits until everything is on disk.
    pub(crate) fn sync(&self) -> Result<(), FsError> {
        wait(|done| self.store.sync(done))
    }

    /// Replaces the state as a sync does. After an error it is as before.
    pub(crate) fn replace(&self, new: State) -> Result<(), FsError> {
        let rows = new.rows_against(&self.state()).into_iter();
        let entries = rows.map(|(inode, entry)| (inode, entry.map(|entry| (Bytes::new(), entry))));
        let synchronisation = Synchronisation {
            leader: 1,
            entries: entries.collect(),
        };
        self.store.replace(new.root, synchronisation, Vec::new())?;
        *self.tree.0.write() = new;
        Ok(())
    }

    pub(crate) fn create(&self, name: &str) -> u64 {
        let (inode, ticket) = self.record(|state| state.create(name.as_bytes(), EntryKind::File));
        self.wait(ticket).expect("the store works");
        inode
    }

    pub(crate) fn write(&self, inode: u64, offset: u32, data: &[u8]) {
        let ((), ticket) = self.record(|state| ((), state.write(inode, offset, data, false)));
        self.wait(ticket).expect("the store works");
    }

    pub(crate) fn state(&self) -> State {
        self.tree.0.read().clone()
    }
}

/// A running store makes files anew that are removed.
impl Drop for Fixture {
    fn drop(&mut self) {
        let _outcome = self.store.shutdown(PATIENCE);
    }
}

/// Calls something that answers, and waits for the answer.
pub(crate) fn wait(
    call: impl FnOnce(Box<dyn FnOnce(Result<(), FsError>) + Send>),
) -> Result<(), FsError> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |result| {
        let _sent = sender.send(result);
    }));
    receiver.recv_timeout(PATIENCE).expect("an answer")
}

/// A directory with a database and a directory for the journal.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
}

impl Place {
    /// In memory where that is possible: syncs cost time, and nothing here depends on them.
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self::inside(if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        })
    }

    /// On a disk.
    pub(crate) fn on_disk() -> Self {
        Self::inside(std::env::temp_dir())
    }

    fn inside(parent: PathBuf) -> Self {
        let directory = tempfile::tempdir_in(parent).expect("a directory");
        std::fs::create_dir(directory.path().join("run")).expect("a directory");
        Self { directory }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("config.db")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig::new(self.database(), self.run())
    }

    /// What a start finds, without starting a thread or leaving traces.
    pub(crate) fn stored(&self) -> State {
        let examined = examine(&self.database(), Access::Live, None).expect("a database");
        State {
            root: examined.root,
            entries: examined
                .entries
                .into_iter()
                .map(|entry| (entry.inode, entry))
                .collect(),
        }
    }

    /// Names in the database's directory and in the run directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = [self.directory.path().to_owned(), self.run()]
            .iter()
            .flat_map(|path| names(path))
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}
