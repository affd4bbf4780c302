//! Making, writing, touching and deleting: results in the order of checks, and what moves.

use bytes::Bytes;
use pmxcfs_api_types::FsError::{
    self, Access, Exists, Io, NotDirectory, NotEmpty, NotFound, TooBig,
};
use pmxcfs_memdb::{Change, EntryKind, Operation, RootState, Rules, Stamp, Tree, splice};

use crate::harness::{Bench, NO_EFFECT, create, delete, mkdir, set_mtime, write};

const MIB: u64 = 1024 * 1024;

/// `d` with a file and a directory, a file `f`, guest 100 on `n`, and a place for it on `m`.
fn bench() -> Bench {
    Bench::of(
        Rules::Replicated,
        &[
            "d",
            "d/f!",
            "d/sub",
            "f!",
            "nodes",
            "nodes/n",
            "nodes/n/qemu-server",
            "nodes/n/qemu-server/100.conf!",
            "nodes/m",
            "nodes/m/qemu-server",
            "nodes/m/qemu-server/101.conf",
        ],
    )
}

#[test]
fn the_first_check_that_fails_decides_and_nothing_changes() {
    let table: &[(Operation, FsError)] = &[
        (mkdir("x/a"), NotFound),
        (mkdir("f/sub/a"), NotFound),
        (mkdir("f/a"), NotDirectory),
        (mkdir("f/.."), NotDirectory),
        (mkdir(""), Access),
        (mkdir("///"), Access),
        (mkdir("d/."), Access),
        (mkdir("d/.."), Access),
        (mkdir("d"), Exists),
        (mkdir("f"), Exists),
        (mkdir("/d//sub/"), Exists),
        (create("x/a"), NotFound),
        (create("f/a"), NotDirectory),
        (create(""), Access),
        (create(".."), Access),
        (create("d"), NotDirectory),
        (create("f"), Exists),
        (create("nodes/x/qemu-server/100.conf"), NotFound),
        (create("nodes/m/qemu-server/100.conf"), Exists),
        (create("nodes/n/qemu-server/100.conf"), Exists),
        (create("nodes/m/qemu-server/101.conf"), NotDirectory),
        (write("x/y", MIB, b"a", false), TooBig),
        (write("x", MIB + 1, b"", true), TooBig),
        (write("f", u64::MAX, b"a", false), TooBig),
        (write("f", 1 << 32, b"", true), TooBig),
        (write("x/a", 0, b"a", false), NotFound),
        (write("f/a", 0, b"a", false), NotDirectory),
        (write("", 0, b"a", false), Access),
        (write("d/..", 0, b"a", false), Access),
        (
            write("nodes/m/qemu-server/100.conf", 0, b"a", false),
            Exists,
        ),
        (
            write("nodes/m/qemu-server/101.conf", 0, b"a", false),
            NotDirectory,
        ),
        (write("d", 0, b"a", false), NotDirectory),
        (write("x", 0, b"a", false), NotFound),
        (delete("x"), NotFound),
        (delete("f/x"), NotFound),
        (delete("d/."), NotFound),
        (delete(""), Access),
        (delete("."), Access),
        (delete("//"), Access),
        (delete("d"), NotEmpty),
        (set_mtime("x/a", 5), NotFound),
        (set_mtime("f/a", 5), NotDirectory),
        (set_mtime("", 5), Access),
        (set_mtime("/", 5), Access),
        (set_mtime("d/..", 5), Access),
        (set_mtime("x", 5), NotFound),
    ];
    let mut bench = bench();
    let before = bench.state();
    for (operation, error) in table {
        assert_eq!(bench.apply(operation), Err(*error), "{operation:?}");
        assert_eq!(bench.changes, NO_EFFECT, "{operation:?}");
        assert_eq!(bench.state(), before, "{operation:?}");
    }
}

#[test]
fn a_new_entry_takes_the_new_version_as_inode_and_leaves_its_directory_alone() {
    let mut bench = Bench::of(Rules::Local, &["d"]);
    let parent = bench.at("d").clone();
    bench.stamp = Stamp {
        writer: 7,
        mtime: 2000,
    };
    for (operation, name, kind) in [
        (create("d/a"), "d/a", EntryKind::File),
        (mkdir("/d//b/"), "d/b", EntryKind::Directory),
    ] {
        let version = bench.tree.root().version + 1;
        assert_eq!(bench.apply(&operation), Ok(0));
        assert_eq!(
            bench.tree.root(),
            RootState {
                version,
                writer: 7,
                mtime: 2000
            }
        );
        let entry = bench.at(name).clone();
        assert_eq!(entry.inode, version);
        assert_eq!(entry.version, version);
        assert_eq!((entry.writer, entry.mtime, entry.size), (7, 2000, 0));
        assert_eq!((entry.kind, entry.parent), (kind, parent.inode));
        assert!(entry.data.is_empty());
        assert_eq!(bench.changes, [Change::Put { inode: version }]);
    }
    assert_eq!(bench.at("d"), &parent);
    assert_eq!(bench.names("d"), ["a", "b"]);
    assert_eq!(bench.tree.entry_count(), 4);
}

#[test]
fn a_write_marks_the_file_and_the_root_only() {
    let mut bench = Bench::of(Rules::Local, &["d", "d/f!", "d/g!"]);
    let (parent, sibling) = (bench.at("d").clone(), bench.at("d/g").clone());
    let inode = bench.inode("d/f");
    bench.stamp = Stamp {
        writer: 9,
        mtime: 3000,
    };
    assert_eq!(bench.write("d/f", 0, b"abc"), Ok(3));
    let version = bench.tree.root().version;
    assert_eq!(version, 5);
    let entry = bench.at("d/f");
    assert_eq!((entry.inode, entry.version), (inode, version));
    assert_eq!((entry.writer, entry.mtime, entry.size), (9, 3000, 3));
    assert_eq!(entry.data, "abc");
    assert_eq!(bench.at("d"), &parent);
    assert_eq!(bench.at("d/g"), &sibling);

    assert_eq!(bench.write("d/f", 0, b"abc"), Ok(3), "same bytes again");
    assert_eq!(bench.at("d/f").version, 6);
}

#[test]
fn a_deletion_moves_the_root_only() {
    let mut bench = Bench::of(Rules::Local, &["d", "d/f!"]);
    let (parent, inode) = (bench.at("d").clone(), bench.inode("d/f"));
    bench.stamp = Stamp {
        writer: 2,
        mtime: 4000,
    };
    assert_eq!(bench.delete("d/f"), Ok(0));
    let removed = Change::Removed {
        inode,
        parent: parent.inode,
        name: Bytes::from_static(b"f"),
    };
    assert_eq!(bench.changes, [removed]);
    assert_eq!(
        bench.tree.root(),
        RootState {
            version: 4,
            writer: 2,
            mtime: 4000
        }
    );
    assert!(!bench.exists("d/f"));
    assert_eq!(bench.at("d"), &parent);
    assert_eq!(bench.tree.entry(inode), None);
    assert_eq!(bench.delete("d"), Ok(0), "empty now");
}

#[test]
fn a_touch_sets_the_given_time_on_entry_and_root() {
    let mut bench = Bench::of(Rules::Local, &["d", "f!"]);
    assert_eq!(bench.write("f", 0, b"x"), Ok(1));
    for path in ["d", "f"] {
        let version = bench.tree.root().version + 1;
        assert_eq!(bench.set_mtime(path, 123_456), Ok(0));
        assert_eq!(
            bench.tree.root(),
            RootState {
                version,
                writer: 3,
                mtime: 123_456
            }
        );
        let entry = bench.at(path);
        assert_eq!(
            (entry.version, entry.writer, entry.mtime),
            (version, 3, 123_456)
        );
        assert_eq!(bench.changes, [Change::Put { inode: entry.inode }]);
    }
    assert_eq!(bench.at("f").data, "x");
}

/// What a file holds: size and data; `None` is a hole.
type Content = (u32, Option<&'static str>);

#[test]
fn content_after_a_write() {
    let hole = |size| (size, None);
    let held = |data: &'static str| (u32::try_from(data.len()).expect("short"), Some(data));
    let empty = (0, Some(""));
    let table: &[(Content, u64, &str, bool, Content)] = &[
        // Longer afterwards.
        (held("abc"), 3, "de", false, held("abcde")),
        (held("abc"), 5, "de", false, held("abc\0\0de")),
        (held("abc"), 5, "de", true, held("abc\0\0de")),
        (held("abc"), 1, "xyz", false, held("axyz")),
        (held("abc"), 1, "xyz", true, held("axyz")),
        (held("abc"), 5, "", true, held("abc\0\0")),
        (held("abc"), 5, "", false, held("abc\0\0")),
        // Not longer.
        (held("abc"), 1, "x", false, held("axc")),
        (held("abc"), 1, "", false, held("abc")),
        (held("abc"), 0, "xyz", false, held("xyz")),
        (held("abc"), 0, "x", true, held("x")),
        (held("abc"), 1, "x", true, held("ax")),
        (held("abc"), 2, "", true, held("ab")),
        (held("abc"), 3, "", true, held("abc")),
        (held("abc"), 0, "", true, empty),
        (held("abc"), 0, "", false, held("abc")),
        // No data before.
        (empty, 0, "ab", false, held("ab")),
        (empty, 2, "ab", false, held("\0\0ab")),
        (empty, 2, "ab", true, held("\0\0ab")),
        (empty, 0, "", false, empty),
        (empty, 0, "", true, empty),
        (empty, 9, "", true, hole(9)),
        (empty, 9, "", false, hole(9)),
        // Holes.
        (hole(100), 0, "ab", false, held("ab")),
        (hole(100), 2, "a", true, held("\0\0a")),
        (hole(100), 0, "", true, empty),
        (hole(100), 0, "", false, empty),
        (hole(100), 50, "", true, hole(50)),
        (hole(100), 200, "", false, hole(200)),
    ];
    for (row, (before, offset, data, truncate, after)) in table.iter().enumerate() {
        let mut bench = Bench::of(Rules::Replicated, &["f!"]);
        match before {
            (size, None) => assert_eq!(bench.truncate("f", u64::from(*size)), Ok(0)),
            (_, Some(data)) => {
                bench.write("f", 0, data.as_bytes()).expect("a file");
            }
        }
        let result = bench.apply(&write("f", *offset, data.as_bytes(), *truncate));
        assert_eq!(
            result,
            Ok(u32::try_from(data.len()).expect("short")),
            "row {row}"
        );
        let entry = bench.at("f");
        assert_eq!(entry.size, after.0, "row {row}");
        assert_eq!(entry.data, after.1.unwrap_or_default(), "row {row}");
        assert_eq!(entry.is_hole(), after.1.is_none(), "row {row}");
    }
}

#[test]
fn holes_read_as_zeros() {
    let mut bench = Bench::of(Rules::Replicated, &["f!"]);
    assert_eq!(bench.truncate("f", MIB), Ok(0));
    assert!(bench.at("f").is_hole());
    assert_eq!(bench.at("f").content(), vec![0; 1024 * 1024]);
    assert_eq!(bench.truncate("f", 3), Ok(0));
    assert_eq!(bench.at("f").content(), "\0\0\0");
    let inode = bench.inode("f");
    let reported = Change::Content {
        inode,
        keep: 0,
        offset: 3,
        data: Bytes::new(),
        size: 3,
    };
    assert_eq!(bench.changes, [reported]);
    assert_eq!(bench.write("f", 50, b"x"), Ok(1));
    assert_eq!(bench.at("f").size, 51);
}

#[test]
fn holes_can_be_filled_without_a_version() {
    let mut bench = Bench::of(Rules::Replicated, &["f!", "g!", "d", "d/h!"]);
    bench.truncate("f", 3).expect("a hole");
    bench.write("g", 0, b"data").expect("written");
    bench.truncate("d/h", 5000).expect("a hole");
    let before = bench.state();
    let index = bench.tree.index();

    let mut changes = Vec::new();
    bench.tree.fill_holes(&mut changes);
    assert_eq!(changes.len(), 2);
    let mut expected = before;
    for change in changes {
        let Change::Content {
            inode,
            keep,
            offset,
            data,
            size,
        } = change
        else {
            panic!("{change:?}");
        };
        let mut entries = expected.entries.iter_mut();
        let entry = entries.find(|entry| entry.inode == inode).expect("there");
        entry.data = splice(entry.data.clone(), keep, offset, &data, size);
        assert_eq!(entry.data, vec![0; entry.size as usize]);
    }
    assert_eq!(bench.state(), expected);
    let changed: Vec<u64> = bench.tree.index().changed_against(&index).collect();
    assert_eq!(changed, [bench.inode("f"), bench.inode("d/h")]);

    let mut changes = Vec::new();
    bench.tree.fill_holes(&mut changes);
    assert_eq!(changes, NO_EFFECT);
}

#[test]
fn a_file_may_fill_its_limit_exactly() {
    let mut bench = Bench::of(Rules::Local, &["f!"]);
    assert_eq!(bench.write("f", MIB - 1, b"a"), Ok(1));
    assert_eq!(u64::from(bench.at("f").size), MIB);
    assert_eq!(bench.truncate("f", MIB), Ok(0));
    assert_eq!(bench.truncate("f", MIB + 1), Err(TooBig));
}

#[test]
fn a_small_write_to_a_large_file_does_not_copy_it() {
    let mut bench = Bench::of(Rules::Local, &["f!"]);
    assert_eq!(bench.write("f", 0, &vec![1; 1 << 20]), Ok(1 << 20));
    let address = bench.at("f").data.as_ptr();
    for block in 0..256 {
        assert_eq!(bench.write("f", block * 4096, &[2; 4096]), Ok(4096));
        assert_eq!(bench.at("f").data.as_ptr(), address);
    }
    assert_eq!(bench.at("f").data, vec![2; 1 << 20]);

    let reader = bench.at("f").content();
    assert_eq!(bench.write("f", 0, b"new"), Ok(3));
    assert_eq!(reader, vec![2; 1 << 20], "a reader keeps what it was given");
    assert_eq!(bench.at("f").data[..4], *b"new\x02");
}

#[test]
fn appending_moves_a_file_rarely() {
    let mut bench = Bench::of(Rules::Local, &["f!"]);
    let mut addresses = Vec::new();
    for block in 0..2048 {
        assert_eq!(bench.write("f", block * 512, &[1; 512]), Ok(512));
        addresses.push(bench.at("f").data.as_ptr());
    }
    addresses.dedup();
    assert!(addresses.len() < 20, "moved {} times", addresses.len());
}

#[test]
fn versioned_paths_count_what_happens_to_them() {
    let mut bench = Bench::new(Rules::Local);
    let mut generation = bench.tree.versions_generation();
    let mut step = |bench: &mut Bench, operation: Operation, counted: u32| {
        let before = bench.file_version("storage.cfg");
        bench.apply(&operation).expect("it works");
        assert_eq!(
            bench.file_version("storage.cfg"),
            before + counted,
            "{operation:?}"
        );
        let moved = bench.tree.versions_generation() != generation;
        assert_eq!(moved, counted > 0, "{operation:?}");
        generation = bench.tree.versions_generation();
    };
    step(&mut bench, create("storage.cfg"), 1);
    step(&mut bench, write("storage.cfg", 0, b"x", false), 1);
    step(&mut bench, write("storage.cfg", 0, b"", true), 1);
    step(&mut bench, set_mtime("storage.cfg", 5), 1);
    step(&mut bench, delete("storage.cfg"), 1);
    step(&mut bench, mkdir("storage.cfg"), 0);
    step(&mut bench, set_mtime("storage.cfg", 5), 1);
    step(&mut bench, delete("storage.cfg"), 1);
    step(&mut bench, create("/storage.cfg"), 0);
    step(&mut bench, write("storage.cfg/", 0, b"x", false), 0);
    step(&mut bench, create("other"), 0);
    step(&mut bench, delete("/storage.cfg"), 0);
    assert_eq!(bench.tree.file_versions().iter().sum::<u32>(), 7);
}

#[test]
fn statfs_follows_every_change_and_stops_at_zero() {
    let mut bench = Bench::of(Rules::Replicated, &["d", "f!", "g!"]);
    let free = |bench: &Bench| {
        let statfs = bench.tree.statfs();
        (32768 - statfs.blocks_free, 262_144 - statfs.files_free)
    };
    assert_eq!(free(&bench), (0, 4));
    bench.write("f", 0, b"x").expect("written");
    bench.write("g", 0, b"x").expect("written");
    assert_eq!(free(&bench), (1, 4), "one rounding over the sum");
    bench.write("f", 4095, b"x").expect("written");
    assert_eq!(free(&bench), (2, 4));
    bench.rename("g", "f").expect("renamed");
    assert_eq!(free(&bench), (1, 3));
    bench.truncate("f", 0).expect("truncated");
    bench.truncate("f", 4097).expect("a hole counts");
    assert_eq!(free(&bench), (2, 3));
    bench.delete("f").expect("deleted");
    assert_eq!(free(&bench), (0, 2));

    for i in 0..129 {
        let path = format!("big{i}");
        bench.create(&path).expect("made");
        bench.truncate(&path, MIB).expect("grown");
    }
    let statfs = bench.tree.statfs();
    assert_eq!((statfs.blocks, statfs.blocks_free), (32768, 0));
    assert_eq!((statfs.block_size, statfs.name_max), (4096, 256));
    assert_eq!((statfs.files, statfs.files_free), (262_144, 262_144 - 131));
}

#[test]
fn a_version_that_cannot_grow_refuses_changes() {
    let root = RootState {
        version: u64::MAX,
        ..RootState::default()
    };
    let mut bench = Bench::with(Tree::new(root, Rules::Local));
    assert_eq!(bench.mkdir("d"), Err(Io));
    assert_eq!(bench.tree.entry_count(), 1);
    assert_eq!(bench.tree.root(), root);
}

#[test]
fn names_are_bytes() {
    let mut bench = Bench::new(Rules::Local);
    let path = Bytes::from_static(b"\xff\xfe \n");
    bench
        .apply(&Operation::Create { path: path.clone() })
        .expect("made");
    let entry = bench.tree.lookup(&path).expect("found");
    assert_eq!(entry.name, path);
    assert_eq!(bench.tree.path_of(entry.inode), Some(path));
}
