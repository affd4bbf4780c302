//! The filesystem without a mount: no root, no kernel.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

mod access;
#[cfg(test)]
mod answers;
mod files;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod layout;
pub(crate) mod model;
mod names;
mod successors;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::{Store, StoreConfig};
use pmxcfs_memdb::{Caller, Change, EntryKind, MemDb, Observer, Operation, Rules, Stamp, Tree};
use tempfile::TempDir;

use super::{
    Attributes, Created, Filesystem, IfExists, NewAttributes, Plugins, ROOT_ID, RequestHeader,
    Tables, WriteAt,
};

const GID: u32 = 33;

/// A filesystem, another node that changes its tree, and requests that wait for their answers.
struct Bench {
    fs: Arc<Filesystem>,
    db: Arc<MemDb>,
    is_quorate: Arc<AtomicBool>,
    /// Node ids whose attributes the kernel was told to forget.
    told: Arc<Mutex<Vec<u64>>>,
    tables: OwnedFd,
    #[cfg(test)]
    killer: super::tables::Killer,
    #[cfg(test)]
    durable: Arc<std::sync::atomic::AtomicUsize>,
    last_request: AtomicU64,
    place: Arc<TempDir>,
}

impl Bench {
    fn new() -> Self {
        let place = Arc::new(TempDir::new().unwrap());
        Self::start(place, Tables::create().unwrap(), b"generated")
    }

    /// What a process does after another one was killed.
    fn start(place: Arc<TempDir>, tables: Tables, text: &'static [u8]) -> Self {
        let config = StoreConfig::new(place.path().join("config.db"), place.path());
        let (store, loaded) = Store::open(config).unwrap();
        let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Local, 0).unwrap();
        let db = MemDb::new(tree, Instant::now());
        db.start_store(store).unwrap();
        let is_quorate = Arc::new(AtomicBool::new(true));
        let mut plugins = Plugins::with_links("node");
        plugins.file(".text", move || Bytes::from_static(text));
        #[cfg(test)]
        let killer = tables.killer();
        #[cfg(test)]
        let durable = Arc::default();
        let submit = {
            let (db, is_quorate) = (Arc::clone(&db), Arc::clone(&is_quorate));
            #[cfg(test)]
            let (killer, durable) = (killer.clone(), Arc::clone(&durable));
            move |caller: Box<dyn Caller>| {
                #[cfg(test)]
                let caller = Box::new(kills::Watched {
                    caller,
                    killer: killer.clone(),
                    durable: Arc::clone(&durable),
                });
                match is_quorate.load(Ordering::Relaxed) {
                    true => db.submit(caller),
                    false => caller.refuse(FsError::Access),
                }
            }
        };
        let quorate = {
            let is_quorate = Arc::clone(&is_quorate);
            move || is_quorate.load(Ordering::Relaxed)
        };
        let descriptor = tables.descriptor().try_clone_to_owned().unwrap();
        let fs = Filesystem::new(
            Arc::clone(&db),
            Box::new(submit),
            plugins,
            Box::new(quorate),
            GID,
            tables,
        );
        db.observe(Arc::new(Witness(Arc::downgrade(&fs))));
        let told = Arc::new(Mutex::new(Vec::new()));
        fs.on_changed_attributes({
            let told = Arc::clone(&told);
            move |id| told.lock().push(id)
        });
        Self {
            fs,
            db,
            is_quorate,
            told,
            tables: descriptor,
            #[cfg(test)]
            killer,
            #[cfg(test)]
            durable,
            last_request: AtomicU64::new(0),
            place,
        }
    }

    /// The process is killed, and another one takes its place.
    fn restart(&mut self) {
        self.db.shutdown(Duration::from_secs(10));
        let tables = Tables::open(self.tables.try_clone().unwrap()).unwrap();
        let last_request = self.last_request.load(Ordering::Relaxed);
        *self = Self::start(Arc::clone(&self.place), tables, b"of another process");
        self.last_request.store(last_request, Ordering::Relaxed);
    }

    /// Another process takes the place of this one, which hands everything over.
    fn change(&mut self) {
        self.fs.prepare_change().unwrap();
        self.restart();
    }

    /// The header of root's next request.
    fn request(&self) -> RequestHeader {
        self.request_of(0)
    }

    /// The header of a user's next request.
    fn request_of(&self, uid: u32) -> RequestHeader {
        let number = self.last_request.fetch_add(2, Ordering::Relaxed) + 2;
        RequestHeader::new(number, uid, None)
    }

    /// Looks a path up, name by name.
    fn walk(&self, path: &str) -> Result<Attributes, FsError> {
        let root = self.fs.attributes(ROOT_ID, None);
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(root, |directory, name| {
            self.fs.lookup(directory?.id, name.as_bytes())
        })
    }

    fn id(&self, path: &str) -> u64 {
        self.walk(path).unwrap().id
    }

    fn mkdir(&self, parent: u64, name: &str) -> Result<Attributes, FsError> {
        wait(|reply| {
            self.fs.make(
                self.request(),
                parent,
                name.as_bytes(),
                EntryKind::Directory,
                reply,
            )
        })
    }

    fn create(&self, parent: u64, name: &str, if_exists: IfExists) -> Result<Created, FsError> {
        let (request, name) = (self.request(), name.as_bytes());
        wait(|reply| self.fs.create(request, parent, name, if_exists, reply))
    }

    fn open(&self, id: u64) -> Result<u64, FsError> {
        wait(|reply| self.fs.open(self.request(), id, false, reply))
    }

    fn open_cut(&self, id: u64) -> Result<u64, FsError> {
        wait(|reply| self.fs.open(self.request(), id, true, reply))
    }

    fn write(&self, handle: u64, at: WriteAt, data: &str) -> Result<u32, FsError> {
        wait(|reply| {
            self.fs
                .write(self.request(), handle, at, data.as_bytes(), reply)
        })
    }

    fn set(&self, id: u64, handle: Option<u64>, new: NewAttributes) -> Result<Attributes, FsError> {
        wait(|reply| {
            self.fs
                .set_attributes(self.request(), id, handle, new, reply)
        })
    }

    fn remove(&self, parent: u64, name: &str) -> Result<(), FsError> {
        wait(|reply| {
            self.fs
                .remove(self.request(), parent, name.as_bytes(), reply)
        })
    }

    fn rename(&self, from: (u64, &str), to: (u64, &str)) -> Result<(), FsError> {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        wait(|reply| self.fs.rename(self.request(), from, to, reply))
    }

    fn read(&self, handle: u64) -> Result<String, FsError> {
        let text = self.fs.read(handle, 0, u32::MAX)?;
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    /// Reads what a node id leads to.
    fn read_id(&self, id: u64) -> Result<String, FsError> {
        let handle = self.open(id)?;
        let text = self.read(handle);
        self.fs.close(handle);
        text
    }

    fn list(&self, id: u64) -> Vec<String> {
        let handle = self.fs.open_directory(self.request(), id).unwrap();
        let mut names = Vec::new();
        let add = |row: &super::Listed<'_>| {
            names.push(String::from_utf8(row.name.to_vec()).unwrap());
            false
        };
        self.fs.list(handle, 0, add).unwrap();
        self.fs.close(handle);
        names
    }

    /// Another node changes the tree, and the kernel is told.
    fn peer(&self, operation: &Operation) -> Result<u32, FsError> {
        let stamp = Stamp {
            writer: 2,
            mtime: 5,
        };
        self.db.deliver(operation, stamp, 0, None).result
    }

    fn peer_makes(&self, path: &str, text: &str) {
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.peer(&Operation::Create { path: path.clone() })
            .unwrap();
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.peer(&Operation::Write {
            path,
            offset: 0,
            data,
            truncate: true,
        })
        .unwrap();
    }

    fn peer_mkdir(&self, path: &str) {
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.peer(&Operation::Mkdir { path }).unwrap();
    }

    fn peer_removes(&self, path: &str) {
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.peer(&Operation::Delete { path }).unwrap();
    }

    fn peer_renames(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|path| Bytes::copy_from_slice(path.as_bytes()));
        self.peer(&Operation::Rename { from, to }).unwrap();
    }

    /// Another tree takes the place of this one: the entries of this one, changed by some operations.
    fn sync(&self, operations: &[Operation]) {
        let entries: Vec<_> = self.db.read().entries().skip(1).cloned().collect();
        let root = self.db.read().root();
        let mut new = Tree::from_entries(root, entries, Rules::Local, 0).unwrap();
        let stamp = Stamp {
            writer: 2,
            mtime: 6,
        };
        let mut changes = Vec::new();
        for operation in operations {
            new.apply(operation, stamp, 0, &mut changes).unwrap();
        }
        let touched = changes.iter().map(Change::inode).collect();
        self.db.replace_tree(new, &touched, 1).unwrap();
    }

    /// The kernel forgets an id as often as it was told of it.
    fn forget(&self, ids: &[u64]) {
        for id in ids {
            self.fs.forget(*id, 1);
        }
    }
}

/// Tells the filesystem what other nodes do, as long as it is there.
struct Witness(Weak<Filesystem>);

impl Observer for Witness {
    fn applied(&self, changes: &[Change]) -> Vec<u64> {
        let fs = self.0.upgrade();
        fs.map(|fs| fs.applied(changes)).unwrap_or_default()
    }

    fn replacing(&self, present: &Tree, new: &Tree) {
        if let Some(fs) = self.0.upgrade() {
            fs.replacing(present, new);
        }
    }

    fn replaced(&self, tree: &Tree, touched: &BTreeSet<u64>) -> Vec<u64> {
        let fs = self.0.upgrade();
        fs.map(|fs| fs.replaced(tree, touched)).unwrap_or_default()
    }

    fn unlocked(&self, shown: &[u64]) {
        if let Some(fs) = self.0.upgrade() {
            fs.unlocked(shown);
        }
    }
}

impl Drop for Bench {
    /// Ends the store's thread.
    fn drop(&mut self) {
        self.db.shutdown(Duration::from_secs(10));
    }
}

/// Waits for the answer of a request.
fn wait<T: Send + 'static>(
    request: impl FnOnce(Box<dyn FnOnce(Result<T, FsError>) + Send>),
) -> Result<T, FsError> {
    let (sender, receiver) = mpsc::channel();
    request(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}
