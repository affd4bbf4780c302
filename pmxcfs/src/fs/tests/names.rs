//! What a node id leads to while another node changes names.

use super::*;

fn delete(path: &'static str) -> Operation {
    let path = Bytes::from_static(path.as_bytes());
    Operation::Delete { path }
}

#[test]
fn a_node_id_leads_to_whatever_has_the_path() {
    let bench = Bench::new();
    bench.peer_makes("f", "old");
    bench.peer_makes("g", "newer");
    let id = bench.id("f");
    bench.peer_renames("g", "f");
    assert_eq!(
        bench.told.lock().pop(),
        Some(id),
        "the attributes are others"
    );
    assert_eq!(bench.fs.attributes(id, None).unwrap().size, 5);
    assert_eq!(bench.read_id(id).unwrap(), "newer");
    let new = bench.id("f");
    assert_ne!(new, id, "another file has another number");
    assert_eq!(bench.read_id(id).unwrap(), "newer", "a request under way");
}

#[test]
fn names_that_lead_nowhere_make_the_kernel_walk_once_more() {
    let bench = Bench::new();
    bench.peer_makes("f", "text");
    let id = bench.id("f");
    bench.peer_removes("f");
    assert_eq!(bench.fs.attributes(id, None), Err(FsError::Stale));
    // No look-up in between: it is a working directory's way.
    assert_eq!(bench.fs.attributes(id, None), Err(FsError::NotFound));
    assert_eq!(bench.open(id), Err(FsError::NotFound));
    bench.peer_makes("f", "again");
    assert_eq!(bench.read_id(id).unwrap(), "again");
    bench.peer_removes("f");
    assert_eq!(
        bench.fs.attributes(id, None),
        Err(FsError::Stale),
        "once for each time"
    );
}

#[test]
fn setting_attributes_of_a_name_that_is_gone_tells_the_truth_at_once() {
    let bench = Bench::new();
    let touch = || NewAttributes {
        mtime: Some(7),
        ..NewAttributes::default()
    };
    bench.peer_makes("x", "text");
    let id = bench.id("x");
    bench.peer_removes("x");
    assert_eq!(bench.set(id, None, touch()), Err(FsError::NotFound));
    bench.peer_mkdir("x");
    assert_eq!(
        bench.set(id, None, touch()),
        Err(FsError::Stale),
        "something else is there: the kernel finds it if it looks again"
    );
    assert_eq!(bench.set(bench.id("x"), None, touch()).unwrap().mtime, 7);
}

#[test]
fn a_node_id_never_stands_for_both_kinds() {
    let bench = Bench::new();
    bench.peer_makes("x", "text");
    let file = bench.id("x");
    bench.peer_removes("x");
    bench.peer_mkdir("x");
    assert_eq!(bench.fs.attributes(file, None), Err(FsError::Stale));
    let directory = bench.id("x");
    assert_ne!(file, directory);
    assert_eq!(bench.list(directory), [".", ".."]);
    bench.peer_removes("x");
    bench.peer_makes("x", "text");
    assert_eq!(
        bench.fs.open_directory(bench.request(), directory),
        Err(FsError::NotFound)
    );
    assert_eq!(bench.fs.attributes(directory, None), Err(FsError::Stale));
}

#[test]
fn what_is_open_keeps_its_attributes_when_its_name_goes() {
    let bench = Bench::new();
    bench.peer_makes("f", "text");
    let id = bench.id("f");
    let handle = bench.open(id).unwrap();
    bench.peer_removes("f");
    let attributes = bench.fs.attributes(id, None).unwrap();
    assert_eq!((attributes.size, attributes.link_count), (4, 0));
    // By its name it is gone, by the link in /proc it is not; the second walk looks the name up.
    assert_eq!(bench.open(id), Err(FsError::Stale));
    assert_eq!(bench.read_id(id).unwrap(), "text");
    assert_eq!(bench.walk("f").unwrap_err(), FsError::NotFound);
    assert_eq!(bench.read_id(id).unwrap(), "text");
    bench.fs.close(handle);
    assert_eq!(bench.open(id), Err(FsError::NotFound));
}

#[test]
fn a_replaced_file_that_is_open_has_its_attributes_back_when_its_name_is_looked_up() {
    let bench = Bench::new();
    bench.peer_makes("f", "text");
    bench.peer_makes("new", "longer");
    let id = bench.id("f");
    let handle = bench.open(id).unwrap();
    bench.peer_renames("new", "f");
    assert_eq!(bench.fs.attributes(id, None).unwrap().size, 6);
    assert_eq!(bench.walk("f").unwrap().size, 6);
    assert_eq!(bench.fs.attributes(id, None).unwrap().size, 4);
    assert_eq!(bench.read(handle).unwrap(), "text");
}

#[test]
fn an_open_file_below_a_directory_that_was_replaced_keeps_its_attributes() {
    let bench = Bench::new();
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "text");
    let id = bench.id("d/f");
    let handle = bench.open(id).unwrap();
    bench.peer_removes("d/f");
    bench.peer_removes("d");
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "longer");
    bench.id("d/f");
    assert_eq!(bench.fs.attributes(id, None).unwrap().size, 4);
    assert_eq!(bench.read(handle).unwrap(), "text");
}

#[test]
fn a_directory_is_found_by_its_path_even_if_it_is_open() {
    let bench = Bench::new();
    bench.peer_mkdir("d");
    let id = bench.id("d");
    let handle = bench.fs.open_directory(bench.request(), id).unwrap();
    bench.peer_removes("d");
    assert_eq!(bench.walk("d").unwrap_err(), FsError::NotFound);
    assert_eq!(bench.fs.lookup(id, b"f").unwrap_err(), FsError::NotFound);
    assert_eq!(bench.mkdir(id, "x").unwrap_err(), FsError::NotFound);
    assert_eq!(bench.fs.attributes(id, None).unwrap().link_count, 0);
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "text");
    let file = bench.fs.lookup(id, b"f").unwrap().id;
    assert_eq!(bench.read_id(file).unwrap(), "text");
    bench.mkdir(id, "x").unwrap();
    bench.id("d/x");
    bench.fs.close(handle);
}

#[test]
fn a_synchronisation_leads_every_name_to_what_has_its_path_now() {
    let bench = Bench::new();
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "text");
    bench.peer_mkdir("d/gone");
    let [d, f, gone] = ["d", "d/f", "d/gone"].map(|path| bench.id(path));
    let make = |path: &'static str| Operation::Create {
        path: Bytes::from_static(path.as_bytes()),
    };
    let mkdir = Operation::Mkdir {
        path: Bytes::from_static(b"d"),
    };
    bench.sync(&[
        delete("d/f"),
        delete("d/gone"),
        delete("d"),
        mkdir,
        make("d/f"),
        make("d/g"),
    ]);
    for id in [d, f, gone] {
        assert!(bench.told.lock().contains(&id));
    }
    assert_eq!(bench.fs.attributes(f, None).unwrap().size, 0);
    assert_eq!(bench.fs.attributes(gone, None), Err(FsError::Stale));
    assert_eq!(bench.list(d), [".", "..", "f", "g"]);
    bench.fs.lookup(d, b"g").unwrap();
}

#[test]
fn a_rename_here_takes_along_what_the_kernel_may_still_have() {
    let bench = Bench::new();
    bench.peer_makes("a", "old");
    let id = bench.id("a");
    bench.peer_makes("n", "newer");
    bench.peer_renames("n", "a");
    // Somebody looks the name up while the rename of what it was is under way: the kernel moves the former id.
    let newer = bench.id("a");
    bench.rename((ROOT_ID, "a"), (ROOT_ID, "z")).unwrap();
    assert_eq!(bench.read_id(id).unwrap(), "newer");
    assert_eq!(bench.read_id(newer).unwrap(), "newer");
    assert_eq!(bench.id("z"), newer);
}

#[test]
fn a_change_by_one_of_two_names_tells_the_kernel_about_both() {
    let bench = Bench::new();
    bench.peer_makes("a", "text");
    let a = bench.id("a");
    let by_a = bench.open(a).unwrap();
    bench.peer_renames("a", "b");
    let b = bench.id("b");
    assert_ne!(a, b);
    bench.told.lock().clear();
    bench.write(by_a, WriteAt::End, "ure").unwrap();
    let mut told = bench.told.lock().clone();
    told.sort_unstable();
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(told, both);
    assert_eq!(bench.fs.attributes(b, None).unwrap().size, 7);

    bench.fs.close(by_a);
    bench.told.lock().clear();
    let by_b = bench.open(b).unwrap();
    bench.write(by_b, WriteAt::End, "d").unwrap();
    assert!(bench.told.lock().is_empty(), "it has one name");
    bench.fs.close(by_b);
}

#[test]
fn a_directory_that_is_gone_takes_the_names_below_along() {
    let bench = Bench::new();
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "text");
    let [d, f] = ["d", "d/f"].map(|path| bench.id(path));
    bench.peer_removes("d/f");
    bench.peer_removes("d");
    assert_eq!(bench.fs.attributes(f, None), Err(FsError::Stale));
    // The walk that begins again comes by the directory: a second `ESTALE` would reach the program.
    assert_eq!(bench.fs.attributes(d, None), Err(FsError::NotFound));
    assert_eq!(bench.fs.lookup(d, b"f").unwrap_err(), FsError::NotFound);
}

#[test]
fn records_go_when_the_kernel_forgets() {
    let bench = Bench::new();
    bench.peer_mkdir("d");
    bench.peer_makes("d/f", "text");
    let [d, f] = ["d", "d/f"].map(|path| bench.id(path));
    bench.forget(&[d]);
    assert_eq!(
        bench.fs.known_ids().len(),
        3,
        "the directory has been named twice"
    );
    bench.forget(&[d]);
    assert_eq!(bench.fs.known_ids().len(), 3, "a name below keeps it");
    let handle = bench.open(f).unwrap();
    bench.forget(&[f]);
    assert_eq!(bench.fs.known_ids().len(), 3, "it is open");
    bench.fs.close(handle);
    assert_eq!(bench.fs.known_ids().len(), 1);
    bench.forget(&[f, ROOT_ID, ROOT_ID]);
    bench.id("d/f");
}

#[test]
fn inodes_that_cannot_be_node_ids_get_drawn_ones() {
    let bench = Bench::new();
    bench.peer_makes("f", "text");
    let entry = bench.db.read().lookup(b"f").unwrap().clone();
    // Databases made by hand may hold anything.
    let inodes = [1, 1 << 63, u64::MAX, entry.inode];
    let entries = inodes.map(|inode| pmxcfs_memdb::Entry {
        inode,
        name: Bytes::from(format!("{inode:x}")),
        data: Bytes::from(format!("{inode:x}")),
        ..entry.clone()
    });
    let new = Tree::from_entries(bench.db.read().root(), entries, Rules::Local, 0).unwrap();
    bench.db.replace_tree(new, &inodes.into(), 1).unwrap();
    let mut ids = Vec::new();
    for inode in inodes {
        let name = format!("{inode:x}");
        let id = bench.id(&name);
        assert_eq!(bench.id(&name), id);
        assert_eq!(bench.read_id(id).unwrap(), name);
        ids.push(id);
    }
    assert_eq!(ids[3], entry.inode);
    ids.push(ROOT_ID);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}
