//! Open files: content, truncation, and what happens when their names go away.

use super::*;

const TEXT: WriteAt = WriteAt::Offset(0);

fn make(bench: &Bench, name: &str, text: &str) -> u64 {
    let made = bench.create(ROOT_ID, name, IfExists::Refuse).unwrap();
    bench.write(made.handle, TEXT, text).unwrap();
    bench.fs.close(made.handle);
    made.attributes.id
}

#[test]
fn what_is_written_is_read_through_any_handle() {
    let bench = Bench::new();
    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    let other = bench.open(made.attributes.id).unwrap();
    assert_eq!(bench.write(made.handle, TEXT, "hello"), Ok(5));
    assert_eq!(bench.read(other).unwrap(), "hello");
    assert_eq!(bench.write(other, WriteAt::End, " you"), Ok(4));
    assert_eq!(bench.read(made.handle).unwrap(), "hello you");
    assert_eq!(bench.walk("f").unwrap().size, 9);
    assert_eq!(bench.fs.read(other, 6, 2).unwrap(), "yo");
    assert_eq!(bench.fs.read(other, 9, 2).unwrap(), "");
    assert_eq!(bench.fs.read(other, u64::MAX, 2).unwrap(), "");
    assert_eq!(bench.read(99), Err(FsError::Io));
}

#[test]
fn truncation_by_name_by_handle_and_at_the_open() {
    let bench = Bench::new();
    let id = make(&bench, "f", "hello");
    let size = |size| NewAttributes {
        size: Some(size),
        ..NewAttributes::default()
    };
    assert_eq!(bench.set(id, None, size(4)).unwrap().size, 4);
    let handle = bench.open(id).unwrap();
    assert_eq!(bench.set(id, Some(handle), size(2)).unwrap().size, 2);
    assert_eq!(bench.read(handle).unwrap(), "he");
    bench.fs.close(handle);
    let handle = bench.open_cut(id).unwrap();
    assert_eq!(bench.read(handle).unwrap(), "");
}

#[test]
fn create_without_exclusive_opens_what_is_there() {
    let bench = Bench::new();
    let id = make(&bench, "f", "hello");
    let refused = bench.create(ROOT_ID, "f", IfExists::Refuse);
    assert_eq!(refused.unwrap_err(), FsError::Exists);
    let opened = bench.create(ROOT_ID, "f", IfExists::Open).unwrap();
    assert_eq!(opened.attributes.id, id);
    assert_eq!(bench.read(opened.handle).unwrap(), "hello");
    let cut = bench.create(ROOT_ID, "f", IfExists::Truncate).unwrap();
    assert_eq!(cut.attributes.size, 0);
    assert_eq!(bench.read(opened.handle).unwrap(), "");
    bench.mkdir(ROOT_ID, "d").unwrap();
    let refused = bench.create(ROOT_ID, "d", IfExists::Open);
    assert_eq!(refused.unwrap_err(), FsError::NotDirectory);
}

#[test]
fn a_removed_file_lives_until_its_last_close_and_not_longer() {
    let bench = Bench::new();
    let id = make(&bench, "f", "old");
    let inode = bench.db.read().lookup(b"f").unwrap().inode;
    let handles = [bench.open(id).unwrap(), bench.open(id).unwrap()];
    bench.remove(ROOT_ID, "f").unwrap();
    assert_eq!(bench.fs.attributes(id, None).unwrap().link_count, 0);
    bench.write(handles[0], WriteAt::End, "er").unwrap();
    assert_eq!(bench.read(handles[1]).unwrap(), "older");
    assert_ne!(make(&bench, "f", "new"), id);
    assert_eq!(bench.read(handles[1]).unwrap(), "older");
    assert_eq!(bench.fs.attributes(id, None).unwrap().size, 5);
    bench.fs.close(handles[0]);
    assert!(bench.db.read().node(inode).is_some());
    bench.fs.close(handles[1]);
    assert!(
        bench.db.read().node(inode).is_none(),
        "the kernel still knows its name"
    );
}

#[test]
fn a_replaced_file_lives_until_its_last_close() {
    let bench = Bench::new();
    let (old, new) = (make(&bench, "f", "old"), make(&bench, "g", "new"));
    let handle = bench.open(old).unwrap();
    bench.rename((ROOT_ID, "g"), (ROOT_ID, "f")).unwrap();
    assert_eq!(bench.read(handle).unwrap(), "old");
    assert_eq!(bench.id("f"), new, "the number stays with the file");
    assert_eq!(bench.read_id(new).unwrap(), "new");
    assert_eq!(bench.walk("g").unwrap_err(), FsError::NotFound);
    let inode = bench.db.read().lookup(b"f").unwrap().inode;
    assert_eq!(bench.db.read().entries().count(), 2);
    bench.fs.close(handle);
    assert!(bench.db.read().node(inode).is_some());
    // A request that was under way when the file was replaced means the name.
    assert_eq!(bench.read_id(old).unwrap(), "new");
}

#[test]
fn a_handle_follows_its_file_through_renames_of_any_node() {
    let bench = Bench::new();
    let id = make(&bench, "f", "text");
    let handle = bench.open(id).unwrap();
    bench.rename((ROOT_ID, "f"), (ROOT_ID, "g")).unwrap();
    bench.peer_renames("g", "h");
    bench.write(handle, WriteAt::End, "ure").unwrap();
    let other = bench.id("h");
    assert_eq!(bench.read_id(other).unwrap(), "texture");
    assert_eq!(bench.walk("f").unwrap_err(), FsError::NotFound);
}

#[test]
fn a_handle_from_before_a_synchronisation_reaches_no_other_file() {
    let bench = Bench::new();
    let id = make(&bench, "f", "text");
    let handle = bench.open(id).unwrap();
    let path = Bytes::from_static(b"f");
    bench.sync(&[Operation::Rename {
        from: path,
        to: Bytes::from_static(b"g"),
    }]);
    assert_eq!(bench.read(handle), Err(FsError::Stale));
    assert_eq!(bench.write(handle, TEXT, "x"), Err(FsError::Stale));
    let id = bench.id("g");
    assert_eq!(bench.read_id(id).unwrap(), "text");
}

#[test]
fn a_listing_stays_as_its_first_read_made_it() {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        make(&bench, name, "");
    }
    let all = bench.list(ROOT_ID);
    assert_eq!(&all[..2], [".", ".."]);
    assert_eq!(&all[all.len() - 3..], ["a", "b", "c"]);
    assert_eq!(all.iter().filter(|name| *name == ".text").count(), 1);

    let handle = bench.fs.open_directory(bench.request(), ROOT_ID).unwrap();
    let mut names = Vec::new();
    let mut offset = 0;
    while let Some((name, next)) = first_row(&bench, handle, offset) {
        if name == "a" {
            bench.remove(ROOT_ID, "b").unwrap();
        }
        names.push(name);
        offset = next;
    }
    assert_eq!(names, all);
    assert_eq!(first_row(&bench, handle, 0).unwrap().0, ".");
    assert!(!bench.list(ROOT_ID).contains(&"b".to_owned()));
}

fn first_row(bench: &Bench, handle: u64, offset: u64) -> Option<(String, u64)> {
    let mut first = None;
    let take = |row: &super::super::Listed<'_>| {
        let is_full = first.is_some();
        if !is_full {
            first = Some((String::from_utf8(row.name.to_vec()).unwrap(), row.next));
        }
        is_full
    };
    bench.fs.list(handle, offset, take).unwrap();
    first
}
