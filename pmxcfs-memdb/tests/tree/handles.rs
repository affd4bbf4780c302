//! Entries that are open while they are deleted or replaced.

use pmxcfs_api_types::FsError::{NotDirectory, NotFound, TooBig};
use pmxcfs_memdb::{Rules, Tree};

use crate::harness::Bench;

#[test]
fn an_open_file_outlives_its_deletion() {
    let mut bench = Bench::of(Rules::Local, &["f!"]);
    bench.write("f", 0, b"content").expect("written");
    let inode = bench.inode("f");
    assert!(bench.tree.pin(inode, 0));
    assert!(bench.tree.pin(inode, 0));
    let entry = bench.at("f").clone();
    bench.delete("f").expect("deleted");

    assert_eq!(bench.tree.entry(inode), None);
    assert!(bench.tree.is_orphan(inode));
    assert_eq!(bench.tree.node(inode), Some(&entry));
    assert_eq!(bench.tree.path_of(inode), None);
    assert_eq!(bench.tree.statfs().blocks_free, 32768);
    assert_eq!(bench.tree.entry_count(), 1);
    bench.tree.unpin(inode, 0);
    assert!(bench.tree.is_orphan(inode), "still open once");
    bench.tree.unpin(inode, 0);
    assert_eq!(bench.tree.node(inode), None);
    bench.tree.unpin(inode, 0);
    assert!(!bench.tree.pin(inode, 0));
}

#[test]
fn an_orphan_can_be_written_and_touched_apart_from_its_successor() {
    let mut bench = Bench::of(Rules::Local, &["f!", "new!"]);
    bench.write("f", 0, b"old content").expect("written");
    let (old, new) = (bench.inode("f"), bench.inode("new"));
    bench.tree.pin(old, 0);
    bench.rename("new", "f").expect("replaced");
    assert!(bench.tree.is_orphan(old));
    assert!(!bench.tree.is_orphan(new));

    let before = bench.state();
    assert_eq!(bench.tree.write_orphan(old, 0, b"OLD", false), Ok(3));
    assert_eq!(bench.tree.node(old).expect("kept").data, "OLD content");
    assert_eq!(bench.tree.write_orphan(old, 3, b"", true), Ok(0));
    assert_eq!(bench.tree.write_orphan(old, 5, b"x", false), Ok(1));
    assert_eq!(bench.tree.touch_orphan(old, 42), Ok(()));
    let orphan = bench.tree.node(old).expect("kept");
    assert_eq!(
        (&orphan.data[..], orphan.size, orphan.mtime),
        (&b"OLD\0\0x"[..], 6, 42)
    );
    assert_eq!(
        bench.tree.write_orphan(old, 1 << 20, b"x", false),
        Err(TooBig)
    );
    assert_eq!(bench.tree.write_orphan(new, 0, b"x", false), Err(NotFound));
    assert_eq!(bench.tree.touch_orphan(new, 42), Err(NotFound));
    assert_eq!(bench.state(), before);
}

#[test]
fn an_open_directory_that_was_deleted_is_empty() {
    let mut bench = Bench::of(Rules::Local, &["priv", "priv/d", "e"]);
    let (private, public) = (bench.inode("priv/d"), bench.inode("e"));
    for inode in [private, public] {
        bench.tree.pin(inode, 0);
    }
    bench.delete("priv/d").expect("deleted");
    bench.delete("e").expect("deleted");
    assert_eq!(bench.tree.listing(private).expect("empty").len(), 0);
    assert_eq!(
        bench.tree.write_orphan(private, 0, b"x", false),
        Err(NotDirectory)
    );
    assert!(bench.tree.is_private(private));
    assert!(!bench.tree.is_private(public));
}

#[test]
fn what_is_not_open_leaves_no_orphan() {
    let mut bench = Bench::of(Rules::Local, &["f!", "g!"]);
    let inode = bench.inode("f");
    bench.tree.pin(inode, 0);
    bench.tree.unpin(inode, 0);
    bench.delete("f").expect("deleted");
    assert!(!bench.tree.is_orphan(inode));
    bench.tree.pin(bench.inode("g"), 0);
    bench.rename("g", "h").expect("renamed");
    assert!(!bench.tree.is_orphan(bench.inode("h")), "it is still there");
}

#[test]
fn a_target_that_goes_with_a_refused_rename_becomes_an_orphan() {
    let mut bench = Bench::of(Rules::Replicated, &["full", "full/x!", "f!"]);
    let inode = bench.inode("f");
    bench.tree.pin(inode, 0);
    assert!(bench.rename("full", "f").is_err());
    assert!(bench.tree.is_orphan(inode));
}

#[test]
fn handles_survive_a_new_tree() {
    let mut bench = Bench::of(Rules::Local, &["stays!", "goes!", "gone!", "back!"]);
    bench.write("goes", 0, b"content").expect("written");
    let paths = ["stays", "goes", "gone", "back"];
    let inodes = paths.map(|path| bench.inode(path));
    let [stays, goes, gone, back] = inodes;
    for inode in inodes {
        bench.tree.pin(inode, 0);
    }
    let entries: Vec<_> = [stays, back]
        .iter()
        .map(|inode| bench.tree.entry(*inode).expect("live").clone())
        .collect();
    bench.delete("gone").expect("deleted");
    bench.delete("back").expect("deleted");

    let root = bench.tree.root();
    let mut tree = Tree::from_entries(root, entries, Rules::Local, 0).expect("a tree");
    tree.adopt(&mut bench.tree);
    let orphans = inodes.map(|inode| tree.is_orphan(inode));
    assert_eq!(orphans, [false, true, true, false]);
    assert_eq!(tree.node(goes).expect("kept").data, "content");
    assert!(tree.node(gone).is_some());
    assert!(tree.entry(back).is_some());
    for inode in inodes {
        tree.unpin(inode, 0);
    }
    assert_eq!(tree.node(goes), None);
    assert!(tree.node(stays).is_some());
}

#[test]
fn orphans_are_charged_to_each_user_who_has_them_open() {
    let mut bench = Bench::of(Rules::Local, &["f!"]);
    bench.write("f", 0, b"12345").expect("written");
    let inode = bench.inode("f");
    for uid in [33, 33, 1000] {
        assert!(bench.tree.pin(inode, uid));
    }
    assert_eq!(bench.tree.orphan_bytes_of(33), 0, "it is in the tree");
    bench.delete("f").expect("deleted");
    let charged = |tree: &Tree| [0, 33, 1000].map(|uid| tree.orphan_bytes_of(uid));
    assert_eq!(charged(&bench.tree), [0, 5, 5]);
    bench
        .tree
        .write_orphan(inode, 5, b"678", false)
        .expect("written");
    bench.tree.pin(inode, 0);
    assert_eq!(charged(&bench.tree), [8, 8, 8]);
    bench.tree.unpin(inode, 33);
    bench.tree.unpin(inode, 1000);
    bench.tree.unpin(inode, 1000);
    assert_eq!(charged(&bench.tree), [8, 8, 0]);
    bench.tree.unpin(inode, 33);
    bench.tree.unpin(inode, 0);
    assert_eq!(charged(&bench.tree), [0, 0, 0]);
    assert_eq!(bench.tree.node(inode), None);
}
