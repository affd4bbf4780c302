//! What goes on in another process, after a kill and after a planned change.

use super::*;

/// What is open: a file, a removed one, a listing after its first two rows, and a generated file.
struct Open {
    bench: Bench,
    file: u64,
    removed: u64,
    listing: u64,
    offset: u64,
    text: u64,
}

fn open() -> Open {
    let bench = Bench::new();
    let make = |name: &str, text: &str| {
        let made = bench.create(ROOT_ID, name, IfExists::Refuse).unwrap();
        bench.write(made.handle, WriteAt::End, text).unwrap();
        made.handle
    };
    let (file, removed) = (make("f", "file"), make("r", "removed"));
    let directory = bench.mkdir(ROOT_ID, "d").unwrap().id;
    for name in ["c", "b", "a", "e"] {
        let made = bench.create(directory, name, IfExists::Refuse).unwrap();
        bench.fs.close(made.handle);
    }
    bench.remove(ROOT_ID, "r").unwrap();
    let listing = bench.fs.open_directory(bench.request(), directory);
    let listing = listing.unwrap();
    let offset = rows(&bench, listing, 0)[3].1;
    let text = bench.open(bench.id(".text")).unwrap();
    Open {
        bench,
        file,
        removed,
        listing,
        offset,
        text,
    }
}

fn rows(bench: &Bench, handle: u64, offset: u64) -> Vec<(String, u64)> {
    let mut rows = Vec::new();
    let add = |row: &crate::fs::Listed<'_>| {
        rows.push((String::from_utf8(row.name.to_vec()).unwrap(), row.next));
        false
    };
    bench.fs.list(handle, offset, add).unwrap();
    rows
}

fn names(bench: &Bench, handle: u64, offset: u64) -> Vec<String> {
    let rows = rows(bench, handle, offset).into_iter();
    rows.map(|(name, _)| name).collect()
}

#[test]
fn everything_goes_on_after_a_planned_change() {
    let mut open = open();
    let bench = &mut open.bench;
    let directory = bench.id("d");
    bench.remove(directory, "a").unwrap();
    bench.change();
    assert_eq!(bench.read(open.file).unwrap(), "file");
    assert_eq!(bench.read(open.removed).unwrap(), "removed");
    bench.write(open.removed, WriteAt::End, "!").unwrap();
    // Again: nothing comes back that has changed since.
    bench.change();
    assert_eq!(bench.read(open.removed).unwrap(), "removed!");
    assert_eq!(bench.read(open.text).unwrap(), "generated");
    assert_eq!(names(bench, open.listing, open.offset), ["a", "e"]);
    bench.fs.close(open.removed);
    bench.change();
    assert_eq!(bench.read(open.removed), Err(FsError::Io));
}

#[test]
fn what_has_a_name_goes_on_after_a_kill() {
    let mut open = open();
    let bench = &mut open.bench;
    let directory = bench.id("d");
    bench.restart();
    bench.write(open.file, WriteAt::End, "!").unwrap();
    assert_eq!(bench.read(open.file).unwrap(), "file!");
    // Content that nothing has is gone, and says so, also when its inode is given away.
    for _ in 0..2 {
        assert_eq!(bench.read(open.removed), Err(FsError::Stale));
        let written = bench.write(open.removed, WriteAt::End, "!");
        assert_eq!(written, Err(FsError::Stale));
        bench.restart();
    }
    assert_eq!(bench.read(open.text).unwrap(), "of another process");
    // The listing goes on behind the same row, whatever came and went.
    bench.remove(directory, "c").unwrap();
    let made = bench.create(directory, "0", IfExists::Refuse).unwrap();
    assert_eq!(names(bench, open.listing, open.offset), ["a", "e", "0"]);
    assert!(made.handle > open.text, "no number is used twice");
    bench.fs.close(open.removed);
    assert_eq!(bench.read(open.removed), Err(FsError::Io));
}

#[test]
fn a_handle_on_a_reused_inode_stays_lost_in_the_next_process() {
    let mut bench = Bench::new();
    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    let [from, to] = ["f", "g"].map(|path| Bytes::copy_from_slice(path.as_bytes()));
    bench.sync(&[Operation::Rename { from, to }]);
    assert_eq!(bench.read(made.handle), Err(FsError::Stale));
    bench.change();
    assert_eq!(bench.read(made.handle), Err(FsError::Stale));
}

#[test]
fn a_kill_after_a_synchronisation_is_stored_leads_no_handle_to_another_file() {
    let bench = Bench::new();
    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    let inode = bench.db.read().lookup(b"f").unwrap().inode;
    // A tree of others that have given the inode to another file, stored, and not yet the present one.
    let root = bench.db.read().root();
    let other = pmxcfs_memdb::Entry {
        name: Bytes::from_static(b"g"),
        ..bench.db.read().node(inode).unwrap().clone()
    };
    let new = Tree::from_entries(root, vec![other], Rules::Local, 0).unwrap();
    bench.fs.replacing(&bench.db.read(), &new);
    let tables = Tables::open(bench.tables.try_clone().unwrap()).unwrap();
    let handles: Vec<_> = tables.handles.all().map(|(_, handle)| handle).collect();
    assert_eq!(handles.len(), 1);
    assert_eq!((handles[0].number, handles[0].inode), (made.handle, None));
    // It goes on here until the new tree is the present one.
    assert_eq!(bench.read(made.handle).unwrap(), "");
}
