//! Building a tree from entries.

use pmxcfs_api_types::FsError::NotFound;
use pmxcfs_memdb::{Entry, Finding, Problem, RootState, Rules, Tree};

use crate::harness::{Bench, bytes, directory, file};

const ROOT: RootState = RootState {
    version: 50,
    writer: 2,
    mtime: 900,
};

fn build(entries: Vec<Entry>) -> Result<Tree, Finding> {
    Tree::from_entries(ROOT, entries, Rules::Local, 0)
}

#[test]
fn directories_may_come_after_their_children() {
    let tree = build(vec![
        file(2, 9, "f", "content"),
        directory(9, 5, "b"),
        directory(5, 0, "a"),
    ])
    .expect("a tree");
    assert_eq!(tree.lookup(b"a/b/f").map(|entry| entry.inode), Some(2));
    assert_eq!(tree.root(), ROOT);
    assert_eq!(tree.entry_count(), 4);
    assert_eq!(tree.path_of(2), Some(bytes("a/b/f")));
    assert_eq!(tree.warnings(), []);
    assert_eq!(tree.file_versions(), &[1; 43]);
    assert_eq!(tree.statfs().blocks_free, 32767);
}

#[test]
fn a_tree_made_by_operations_can_be_built_again() {
    let mut bench = Bench::of(
        Rules::Local,
        &[
            "d",
            "d/e",
            "d/e/f!",
            "nodes",
            "nodes/a",
            "nodes/a/lxc",
            "nodes/a/lxc/100.conf!",
        ],
    );
    bench.write("d/e/f", 0, b"content").expect("written");
    bench.rename("d/e/f", "f").expect("renamed");
    let entries: Vec<Entry> = bench.tree.entries().skip(1).cloned().collect();
    let tree = Tree::from_entries(
        bench.tree.root(),
        entries.into_iter().rev(),
        Rules::Local,
        0,
    )
    .expect("a tree");
    assert!(tree.entries().eq(bench.tree.entries()));
    assert_eq!(tree.statfs(), bench.tree.statfs());
    assert_eq!(tree.guests(), bench.tree.guests());
    assert_eq!(tree.index(), bench.tree.index());
}

#[test]
fn unreachable_entries_are_kept_counted_and_hashed() {
    let tree = build(vec![
        file(9, 0, "file", ""),
        file(2, 9, "below-a-file", "x"),
        directory(3, 3, "own-parent"),
        directory(4, 5, "one"),
        directory(5, 4, "two"),
        file(6, 5, "inside", "x"),
        file(7, 0, "good", "x"),
    ])
    .expect("a tree");
    assert_eq!(tree.entry_count(), 8);
    assert_eq!(tree.index().entries().len(), 8);
    assert_eq!(tree.statfs().files_free, 262_144 - 8);
    for inode in [2, 3, 4, 5, 6] {
        assert_eq!(tree.path_of(inode), None);
        assert!(tree.is_private(inode));
    }
    assert_eq!(tree.lookup(b"file/below-a-file"), None);
    let mut bench = Bench::with(tree);
    assert_eq!(bench.names(""), ["file", "good"]);
    assert_eq!(bench.delete("own-parent"), Err(NotFound));
    assert_eq!(
        bench.delete("file"),
        Ok(0),
        "what names it as its directory is no entry of it"
    );
}

fn finding(inode: u64, name: &'static str, problem: Problem) -> Finding {
    Finding {
        inode,
        name: bytes(name),
        problem,
    }
}

#[test]
fn what_no_tree_can_have_is_refused() {
    assert_eq!(
        build(vec![file(2, 0, "a", ""), file(2, 0, "b", "")]).err(),
        Some(finding(2, "b", Problem::DuplicateInode))
    );
    assert_eq!(
        build(vec![directory(0, 0, "")]).err(),
        Some(finding(0, "", Problem::DuplicateInode))
    );
    assert_eq!(
        build(vec![file(2, 7, "a", "")]).err(),
        Some(finding(2, "a", Problem::MissingParent { parent: 7 }))
    );
    assert_eq!(
        build(vec![directory(2, 0, "a"), file(3, 0, "a", "")]).err(),
        Some(finding(
            3,
            "a",
            Problem::DuplicateName {
                parent: 0,
                other: 2
            }
        ))
    );
}

#[test]
fn a_used_inode_is_never_given_out_again() {
    let mut bench = Bench::with(build(vec![file(51, 0, "a", "x")]).expect("a tree"));
    let before = bench.state();
    assert!(bench.create("b").is_err());
    assert_eq!(bench.state(), before);
}

#[test]
fn counters_go_on_in_a_new_tree() {
    let mut bench = Bench::of(
        Rules::Local,
        &[
            "nodes",
            "nodes/a",
            "nodes/a/lxc",
            "nodes/a/lxc/100.conf!",
            "user.cfg!",
        ],
    );
    bench
        .write("nodes/a/lxc/100.conf", 0, b"x")
        .expect("written");
    let generation = bench.tree.versions_generation();
    let list = bench.tree.guests().clone();
    let entries: Vec<Entry> = bench.tree.entries().skip(1).cloned().collect();

    let mut tree = Tree::from_entries(ROOT, entries, Rules::Local, 0).expect("a tree");
    tree.adopt(&mut bench.tree);
    bench.tree = tree;
    assert_eq!(bench.file_version("user.cfg"), 2);
    assert_eq!(bench.file_version("storage.cfg"), 1);
    assert!(bench.tree.versions_generation() > generation);
    assert_eq!(bench.tree.guests().version, list.version + 1);
    let version =
        |list: &pmxcfs_memdb::GuestList| list.guests.values().next().map(|guest| guest.version);
    assert_eq!(
        (version(&list), version(bench.tree.guests())),
        (Some(2), Some(3))
    );

    let mut empty = build(vec![]).expect("a tree");
    let list = bench.tree.guests().clone();
    empty.adopt(&mut bench.tree);
    assert_eq!(empty.guests(), &list, "without 'nodes' nothing is scanned");
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4096
}

#[test]
fn a_deep_tree_takes_no_more_memory_than_its_names() {
    let name = "n".repeat(255);
    let chain = (1..=3000).map(|inode| directory(inode, inode - 1, &name));
    let before = resident();
    let tree = build(chain.collect()).expect("a tree");
    // The paths of all directories together have 1.15 GB.
    let taken = resident().saturating_sub(before);
    assert!(taken < 200 * 1024 * 1024, "{taken} bytes");
    let path = tree.path_of(3000).expect("a path leads there");
    assert_eq!(path.len(), 3000 * 256 - 1);
    assert_eq!(tree.lookup(&path).map(|entry| entry.inode), Some(3000));
}
