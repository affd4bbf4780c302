//! The tree, shared between threads and kept by the store.
//!
//! Every mutation goes through one place, [`MemDb::submit`] in local mode: it applies the operation under the tree's
//! write lock, records what changed in the same critical section, and answers when the record is safe. Readers take the
//! read lock for as long as it takes to clone a [`bytes::Bytes`]; nobody holds either lock across I/O, a reply or a
//! wait.

use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::sync::{Mutex, Rank, RwLock, RwLockReadGuard, RwLockWriteGuard};
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_api_types::{FsError, Result};

use crate::store::{
    Asker, CommitSink, EntrySource, ShutdownOutcome, Store, StoreHandle, Synchronisation, Ticket,
};
use crate::{
    Caller, Change, Entry, Observer, Operation, Plan, Precheck, ROOT_INODE, Reply, RootState,
    Stamp, Tree,
};

/// Entries that are hashed in one go, in a millisecond or so.
const DIGEST_COUNT: usize = 512;

/// The tree of this node.
pub struct MemDb {
    /// Guards the tree. Held for single operations only.
    tree: RwLock<Tree>,
    /// Held while the tree is being replaced.
    replacement: Mutex<()>,
    /// Whether changes have to wait for that. Written with `tree` locked for writing.
    is_replacing: AtomicBool,
    /// Set once the store's thread runs; before that nothing can be changed.
    store: OnceLock<Arc<StoreHandle>>,
    /// Set when the filesystem is mounted.
    observer: OnceLock<Arc<dyn Observer>>,
    started: Instant,
    loaded_version: u64,
}

/// The outcome of a delivered operation, and the answer to its caller, if that is on this node. The ticket is for the
/// records that must be safe before the reply is given.
pub struct Delivered {
    /// As [`Tree::apply`], the same on all nodes.
    pub result: Result<u32>,
    /// The caller's answer.
    pub answer: Option<(Reply, Option<Ticket>)>,
}

impl MemDb {
    /// Puts a loaded tree under shared access. `started` is the moment that the tree's lock ages count from.
    pub fn new(tree: Tree, started: Instant) -> Arc<Self> {
        Arc::new(Self {
            loaded_version: tree.root().version,
            tree: RwLock::new(Rank::MemDbTree, tree),
            replacement: Mutex::new(Rank::MemDbReplacement, ()),
            is_replacing: AtomicBool::new(false),
            store: OnceLock::new(),
            observer: OnceLock::new(),
            started,
        })
    }

    /// Starts the store's thread. Call after daemonizing, once.
    pub fn start_store(self: &Arc<Self>, store: Store) -> std::io::Result<()> {
        let source = Arc::new(Source(Arc::clone(self)));
        let handle = store.start(source)?;
        assert!(self.store.set(handle).is_ok(), "the store is started once");
        Ok(())
    }

    /// From now on the observer sees what the cluster does. The first one stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // The filesystem is mounted once.
        let _first = self.observer.set(observer);
    }

    /// The tree for reading. Take what is needed (contents are shared, not copied) and drop the guard.
    pub fn read(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read()
    }

    /// The version of the database that was loaded: all that a former process has kept.
    pub fn loaded_version(&self) -> u64 {
        self.loaded_version
    }

    /// The running store.
    pub fn store(&self) -> Option<&Arc<StoreHandle>> {
        self.store.get()
    }

    /// Lets somebody look at the tree and [pin](Tree::pin) what that leads to, in one step, or take a pin back.
    pub fn with_pins<R>(&self, call: impl FnOnce(&mut Tree) -> R) -> R {
        call(&mut self.tree.write())
    }

    /// Makes a replicated tree remember the digests that its [index](Tree::index) needs. It is locked for moments only.
    pub fn learn_digests(&self) {
        let mut last = ROOT_INODE;
        while let Some(inode) = self.read().learn_digests(last, DIGEST_COUNT) {
            last = inode;
        }
    }

    /// Carries out a caller's plan in local mode: writer 0, time now, applied at once.
    pub fn submit(&self, mut caller: Box<dyn Caller>) {
        if self.is_failed() {
            return caller.refuse(FsError::Io);
        }
        let (reply, ticket) = self.change_for(caller.asker(), |tree, changes| {
            let result = match caller.plan(tree) {
                Err(error) => Err(error),
                Ok(Plan::Orphan(inode, operation)) => tree.change_orphan(inode, &operation),
                Ok(Plan::Apply(operation)) => self.apply_local(tree, &operation, changes),
            };
            caller.answer(tree, changes, result)
        });
        self.acknowledge(ticket, reply);
    }

    /// Gives a caller its answer once the record is safe. `None` stands for nothing to record. Not to be called with the tree locked.
    pub fn acknowledge(&self, ticket: Option<Ticket>, reply: Reply) {
        match (ticket, self.store.get()) {
            (Some(ticket), Some(store)) => store.acknowledge(ticket, reply),
            _ => reply(Ok(())),
        }
    }

    /// Applies an operation that all members apply. `caller` asked for it on this node, and gets its answer from the tree as
    /// the operation leaves it.
    pub fn deliver(
        &self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        caller: Option<Box<dyn Caller>>,
    ) -> Delivered {
        let observer = self.observer.get().filter(|_| caller.is_none());
        let asker = caller.as_ref().and_then(|caller| caller.asker());
        let ((result, reply, shown), ticket) = self.change_for(asker, |tree, changes| {
            let result = tree.apply(operation, stamp, now_secs, changes);
            let shown = observer.map(|observer| observer.applied(changes));
            let reply = caller.map(|caller| caller.answer(tree, changes, result));
            (result, reply, shown)
        });
        if let Some((observer, shown)) = observer.zip(shown) {
            observer.unlocked(&shown);
        }
        Delivered {
            result,
            answer: reply.map(|reply| (reply, ticket)),
        }
    }

    /// Changes the tree and records the changes, as one step that no reader sees half. A caller is answered when the record of
    /// the ticket is safe; `None` if nothing changed. Never waits.
    pub fn change<R>(
        &self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        self.change_for(None, call)
    }

    fn change_for<R>(
        &self,
        asker: Option<Asker>,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        let mut changes = Vec::with_capacity(2);
        let mut tree = self.lock_for_change();
        let result = call(&mut tree, &mut changes);
        let store = self.store.get().filter(|_| !changes.is_empty());
        let ticket = store.map(|store| {
            let former = tree.take_former();
            let (root, entry) = (tree.root(), |inode| tree.entry(inode));
            let path_of = |inode| tree.path_of(inode);
            store.record_with(root, &changes, &entry, |trail| {
                trail.add(root, &changes, &entry, &path_of, former, asker);
            })
        });
        (result, ticket)
    }

    /// Tells a history of each commit from now on; the first one stays. Call once the store runs.
    pub fn tell_history(&self, sink: Box<dyn CommitSink>) {
        self.want_former(|_inode| false);
        if let Some(store) = self.store.get() {
            store.tell_history(sink);
        }
    }

    /// Sets aside, for the history, the contents of removed files, paths of moved entries, and before their first change the
    /// contents of the present files that it does not know.
    pub fn want_former(&self, is_known: impl Fn(u64) -> bool) {
        self.tree.write().want_former(is_known);
    }

    /// Makes another tree the present one, as a sync does. `touched` are the inodes that differ from before or are gone,
    /// without the root; there may be none, if only the root state differs. `leader` is the node that the new tree comes
    /// from.
    ///
    /// Everything applied so far is committed, then the new tree, in one transaction. Once that is on the disk the new
    /// tree shows up in memory, in one step; what is open goes on in it, see [`Tree::adopt`]. Readers see the former tree
    /// until then, and changes wait. For callers that may wait for a disk.
    ///
    /// # Errors
    /// [`FsError::Io`] if the database cannot be written, or if another process holds it for 10 s. The former tree stays,
    /// with everything that is open. The store has failed then, and tells its watchers when the database can be written
    /// again; what it holds by then is the former tree, even if the new one had been written and only could not be made
    /// durable.
    pub fn replace_tree(&self, mut new: Tree, touched: &BTreeSet<u64>, leader: u32) -> Result<()> {
        let store = self.store.get().ok_or(FsError::Io)?;
        let entry_with_path = |inode| new.path_of(inode).zip(new.entry(inode).cloned());
        let entries = touched
            .iter()
            .map(|inode| (*inode, entry_with_path(*inode)))
            .collect();
        let synchronisation = Synchronisation { leader, entries };
        let replacement = self.replacement.lock();
        let former = {
            let tree = self.tree.write();
            self.is_replacing.store(true, Ordering::Relaxed);
            if let Some(observer) = self.observer.get() {
                observer.replacing(&tree, &new);
            }
            tree.former_of(touched)
        };
        let result = store.replace(new.root(), synchronisation, former);
        let observer = self.observer.get().filter(|_| result.is_ok());
        let (result, shown) = {
            let mut tree = self.tree.write();
            self.is_replacing.store(false, Ordering::Relaxed);
            let result = result.map(|()| {
                new.adopt(&mut tree);
                mem::replace(&mut *tree, new)
            });
            let shown = observer.map(|observer| observer.replaced(&tree, touched));
            (result, shown)
        };
        drop(replacement);
        if let Some((observer, shown)) = observer.zip(shown) {
            observer.unlocked(&shown);
        }
        // A large tree takes its time to drop; nobody waits for that.
        result.map(drop)
    }

    /// The tree for changes, which wait for a replacement.
    fn lock_for_change(&self) -> RwLockWriteGuard<'_, Tree> {
        loop {
            let tree = self.tree.write();
            if !self.is_replacing.load(Ordering::Relaxed) {
                return tree;
            }
            drop(tree);
            drop(self.replacement.lock());
        }
    }

    /// Whether changes cannot be recorded at present.
    pub fn is_failed(&self) -> bool {
        self.store.get().is_none_or(|store| store.is_failed())
    }

    fn apply_local(
        &self,
        tree: &mut Tree,
        operation: &Operation,
        changes: &mut Vec<Change>,
    ) -> Result<u32> {
        let stamp = Stamp {
            writer: 0,
            mtime: wall_clock_secs(),
        };
        let now_secs = self.started.elapsed().as_secs();
        match (tree.check_before_send(operation)?, operation) {
            (Precheck::NothingToDo, _) => return Ok(0),
            (Precheck::FillWithZeros { size }, Operation::Write { path, .. }) => {
                let zeros = Operation::Write {
                    path: path.clone(),
                    offset: 0,
                    data: Bytes::from(vec![0; size as usize]),
                    truncate: true,
                };
                return tree.apply(&zeros, stamp, now_secs, changes).map(|_| 0);
            }
            _ => {}
        }
        if let Operation::SetMtime { path, mtime: 0 } = operation {
            return tree.unlock_or_touch(path, stamp, now_secs, changes);
        }
        tree.apply(operation, stamp, now_secs, changes)
    }

    /// Applies one operation in local mode and waits until it is recorded. For the start, where nobody else waits.
    ///
    /// # Errors
    /// As the operation.
    pub fn apply_and_wait(&self, operation: &Operation) -> Result<u32> {
        let (result, ticket) =
            self.change(|tree, changes| self.apply_local(tree, operation, changes));
        let (sender, receiver) = mpsc::channel();
        let reply = move |durable| {
            // The receiver waits for as long as the sender lives.
            let _sent = sender.send(durable);
        };
        self.acknowledge(ticket, Box::new(reply));
        receiver.recv().unwrap_or(Err(FsError::Io)).and(result)
    }

    /// Calls `done` when everything applied so far is on disk.
    pub fn sync(&self, done: impl FnOnce(Result<()>) + Send + 'static) {
        match self.store.get() {
            Some(store) => store.sync(done),
            None => done(Err(FsError::Io)),
        }
    }

    /// Commits what is queued and closes the database, within the deadline. `None` if the store never ran.
    pub fn shutdown(&self, deadline: Duration) -> Option<ShutdownOutcome> {
        self.store.get().map(|store| store.shutdown(deadline))
    }
}

/// The tree as the store's thread sees it.
struct Source(Arc<MemDb>);

impl EntrySource for Source {
    fn with_entries(&self, visit: &mut dyn FnMut(RootState, &dyn Fn(u64) -> Option<Entry>)) {
        let tree = self.0.tree.read();
        visit(tree.root(), &|inode| tree.entry(inode).cloned());
    }

    fn inodes_above(&self, inode: u64, count: usize) -> Vec<u64> {
        self.0.tree.read().inodes_above(inode).take(count).collect()
    }

    fn is_being_replaced(&self) -> bool {
        self.0.is_replacing.load(Ordering::Relaxed)
    }
}
