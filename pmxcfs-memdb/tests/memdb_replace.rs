//! The shared tree while a sync replaces it: readers, open files, and changes that come at the same time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::store::{Access, Store, StoreConfig, examine};
use pmxcfs_memdb::{Entry, MemDb, Operation, ROOT_INODE, Rules, Stamp, Tree};
use rusqlite::Connection;
use store_support::fault::FaultyMedium;
use store_support::{PATIENCE, Place};

const STAMP: Stamp = Stamp {
    writer: 2,
    mtime: 1_700_000_000,
};

fn start(config: StoreConfig) -> Arc<MemDb> {
    let (store, loaded) = Store::open(config).unwrap();
    let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Replicated, 0).unwrap();
    let db = MemDb::new(tree, Instant::now());
    db.start_store(store).unwrap();
    db
}

fn apply(tree: &mut Tree, operation: &Operation) -> Result<u32, FsError> {
    tree.apply(operation, STAMP, 0, &mut Vec::new())
}

fn delivered(db: &MemDb, operation: &Operation) -> Result<u32, FsError> {
    let (result, _ticket) = db.change(|tree, changes| tree.apply(operation, STAMP, 0, changes));
    result
}

fn create(path: &'static str) -> Operation {
    let path = Bytes::from_static(path.as_bytes());
    Operation::Create { path }
}

fn mkdir(path: &'static str) -> Operation {
    let path = Bytes::from_static(path.as_bytes());
    Operation::Mkdir { path }
}

fn write(path: &'static str, content: &'static [u8]) -> Operation {
    Operation::Write {
        path: Bytes::from_static(path.as_bytes()),
        offset: 0,
        data: Bytes::from_static(content),
        truncate: true,
    }
}

/// A copy of the tree that went on without this member, and what differs.
fn elsewhere(db: &MemDb, operations: &[Operation]) -> (Tree, BTreeSet<u64>) {
    let former = db.read();
    let entries: Vec<Entry> = former.entries().skip(1).cloned().collect();
    let mut tree = Tree::from_entries(former.root(), entries, Rules::Replicated, 0).unwrap();
    for operation in operations {
        apply(&mut tree, operation).unwrap();
    }
    let inodes = former.entries().chain(tree.entries());
    let touched = inodes
        .map(|entry| entry.inode)
        .filter(|inode| *inode != ROOT_INODE && former.entry(*inode) != tree.entry(*inode))
        .collect();
    (tree, touched)
}

fn inode(db: &MemDb, path: &str) -> u64 {
    db.read().lookup(path.as_bytes()).unwrap().inode
}

/// The same content, as a start of the daemon would see it.
fn stored(place: &Place) -> Tree {
    let examined = examine(&place.database(), Access::Live, None).unwrap();
    Tree::from_entries(examined.root, examined.entries, Rules::Replicated, 0).unwrap()
}

fn fill(db: &MemDb) {
    for operation in [
        mkdir("priv"),
        mkdir("priv/lock"),
        mkdir("priv/lock/held"),
        create("file"),
        write("file", b"own"),
        create("gone"),
        write("gone", b"still open"),
    ] {
        delivered(db, &operation).unwrap();
    }
}

#[test]
fn a_sync_brings_the_new_tree_and_keeps_what_is_open() {
    let place = Place::new();
    let db = start(place.config());
    fill(&db);
    let (file, gone) = (inode(&db, "file"), inode(&db, "gone"));
    assert!(db.with_pins(|tree| tree.pin(file, 0)));
    assert!(db.with_pins(|tree| tree.pin(gone, 0)));
    let counters = *db.read().file_versions();
    let (new, touched) = elsewhere(
        &db,
        &[
            write("file", b"leader's"),
            Operation::Delete {
                path: Bytes::from_static(b"gone"),
            },
            create("new"),
        ],
    );
    let index = new.index();
    db.replace_tree(new, &touched, 1).unwrap();

    let tree = db.read();
    assert_eq!(tree.index(), index);
    assert_eq!(tree.node(file).unwrap().data, "leader's");
    assert_eq!(tree.node(gone).unwrap().data, "still open");
    assert!(tree.is_orphan(gone));
    assert!(
        tree.file_versions()
            .iter()
            .zip(&counters)
            .all(|(new, old)| *new == old + 1)
    );
    drop(tree);
    db.with_pins(|tree| tree.unpin(gone, 0));
    assert!(db.read().node(gone).is_none());
    assert_eq!(stored(&place).index(), index);

    // Life goes on.
    delivered(&db, &write("new", b"x")).unwrap();
    let index = db.read().index();
    db.shutdown(PATIENCE);
    assert_eq!(stored(&place).index(), index);
}

#[test]
fn an_inode_that_a_sync_gives_to_another_file_is_not_what_somebody_has_open() {
    let place = Place::new();
    let db = start(place.config());
    fill(&db);
    let file = inode(&db, "file");
    assert!(db.with_pins(|tree| tree.pin(file, 0)));
    // Two sides that went on apart.
    let (new, touched) = elsewhere(&db, &[create("theirs"), write("theirs", b"kept")]);
    delivered(&db, &create("ours")).unwrap();
    let ours = inode(&db, "ours");
    assert_eq!(new.lookup(b"theirs").unwrap().inode, ours);
    assert!(db.with_pins(|tree| tree.pin(ours, 0)));
    let epoch = db.read().epoch();
    db.replace_tree(new, &touched, 1).unwrap();
    {
        let tree = db.read();
        assert!(tree.is_reused_since(ours, epoch));
        assert!(!tree.is_reused_since(ours, tree.epoch()));
        assert!(!tree.is_reused_since(file, epoch));
        assert_eq!(tree.node(ours).unwrap().name, "theirs");
    }
    // One that was removed and comes back is the same file.
    let (new, _) = elsewhere(&db, &[]);
    let path = Bytes::from_static(b"file");
    delivered(&db, &Operation::Delete { path }).unwrap();
    assert!(db.read().is_orphan(file));
    db.replace_tree(new, &BTreeSet::from([file]), 1).unwrap();
    let tree = db.read();
    assert!(!tree.is_orphan(file) && !tree.is_reused_since(file, 0));
    drop(tree);
    db.with_pins(|tree| tree.unpin(ours, 0));
    assert!(
        !db.read().is_reused_since(ours, epoch),
        "nobody has it open"
    );
}

#[test]
fn ages_of_locks_survive_a_sync() {
    let place = Place::new();
    let db = start(place.config());
    fill(&db);
    let path = b"priv/lock/held";
    let checksum = db.read().lookup(path).unwrap().checksum();
    let (new, touched) = elsewhere(&db, &[create("new")]);
    // The new tree's own record is much younger than the former one's.
    let entries: Vec<Entry> = new.entries().skip(1).cloned().collect();
    let new = Tree::from_entries(new.root(), entries, Rules::Replicated, 1000).unwrap();
    db.replace_tree(new, &touched, 1).unwrap();
    let (expired, _ticket) = db.change(|tree, _changes| tree.lock_expired(path, &checksum, 121));
    assert!(expired);
}

#[test]
fn a_sync_that_fails_leaves_everything_as_it_was() {
    let place = Place::new();
    let medium = FaultyMedium::healthy();
    let db = start(StoreConfig {
        medium: medium.shared(),
        ..place.config()
    });
    fill(&db);
    let gone = inode(&db, "gone");
    assert!(db.with_pins(|tree| tree.pin(gone, 0)));
    let index = db.read().index();
    let counters = *db.read().file_versions();
    medium.break_database(true);
    let operations = [
        Operation::Delete {
            path: Bytes::from_static(b"gone"),
        },
        create("new"),
    ];
    let (new, touched) = elsewhere(&db, &operations);
    assert_eq!(db.replace_tree(new, &touched, 1), Err(FsError::Io));
    assert!(db.is_failed());
    {
        let tree = db.read();
        assert_eq!(tree.index(), index);
        assert_eq!(*tree.file_versions(), counters);
        assert!(!tree.is_orphan(gone));
    }

    medium.break_database(false);
    let deadline = Instant::now() + PATIENCE;
    while db.is_failed() {
        assert!(Instant::now() < deadline, "the store does not recover");
        std::thread::yield_now();
    }
    let (new, touched) = elsewhere(&db, &operations);
    let index = new.index();
    db.replace_tree(new, &touched, 1).unwrap();
    assert!(db.read().is_orphan(gone));
    assert_eq!(stored(&place).index(), index);
    db.shutdown(PATIENCE);
    assert_eq!(stored(&place).index(), index);
}

#[test]
fn readers_go_on_and_changes_wait_while_the_database_is_written() {
    let place = Place::new();
    let db = start(place.config());
    fill(&db);
    let (saved, has_saved) = mpsc::channel();
    db.sync(move |result| saved.send(result).unwrap());
    has_saved.recv().unwrap().unwrap();
    let file = inode(&db, "file");
    let (new, touched) = elsewhere(&db, &[write("file", b"leader's")]);
    let holder = Connection::open(place.database()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let replaced = scope.spawn(|| db.replace_tree(new, &touched, 1));
        let deadline = Instant::now() + PATIENCE;
        while db.store().unwrap().stats().failed_commit_count < 3 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let changed = scope.spawn(|| delivered(&db, &create("late")));
        // Neither waits for the disk.
        assert_eq!(db.read().entry(file).unwrap().data, "own");
        assert!(db.with_pins(|tree| tree.pin(file, 0)));
        std::thread::yield_now();
        assert!(!changed.is_finished() && !replaced.is_finished());
        holder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(replaced.join().unwrap(), Ok(()));
        assert_eq!(changed.join().unwrap(), Ok(0));
    });
    let tree = db.read();
    assert_eq!(tree.entry(file).unwrap().data, "leader's");
    assert!(tree.lookup(b"late").is_some());
    let index = tree.index();
    drop(tree);
    db.shutdown(Duration::from_secs(10));
    assert_eq!(stored(&place).index(), index);
}

#[test]
fn only_the_root_state_may_differ() {
    let place = Place::new();
    let db = start(place.config());
    fill(&db);
    let former = db.read().root();
    let entries: Vec<Entry> = db.read().entries().skip(1).cloned().collect();
    let mut root = former;
    root.mtime += 100;
    let new = Tree::from_entries(root, entries, Rules::Replicated, 0).unwrap();
    db.replace_tree(new, &BTreeSet::new(), 1).unwrap();
    assert_eq!(db.read().root(), root);
    assert_eq!(stored(&place).root(), root);
}
