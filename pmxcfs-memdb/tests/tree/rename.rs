//! Renames: order of checks, what is replaced, and what C peers do to their harm.

use bytes::Bytes;
use pmxcfs_api_types::FsError::{self, Access, Exists, Invalid, NotDirectory, NotEmpty, NotFound};
use pmxcfs_memdb::{Change, RootState, Rules, Stamp};

use crate::harness::{Bench, NO_EFFECT};

fn bench(rules: Rules) -> Bench {
    Bench::of(
        rules,
        &[
            "f!",
            "g!",
            "empty",
            "full",
            "full/x!",
            "full/y!",
            "one",
            "one/x!",
            "priv",
            "priv/lock",
            "priv/lock/a",
            "priv/lock/file!",
            "nodes",
            "nodes/n",
            "nodes/n/qemu-server",
            "nodes/n/qemu-server/100.conf!",
            "nodes/n/qemu-server/101.conf!",
            "nodes/n/lxc",
            "nodes/n/lxc/200.conf!",
            "nodes/m",
            "nodes/m/qemu-server",
        ],
    )
}

#[test]
fn the_first_check_that_fails_decides_and_nothing_changes() {
    let table: &[(&str, &str, FsError)] = &[
        ("missing", "f", NotFound),
        ("missing", "", NotFound),
        ("", "x", Access),
        ("/", "x", Access),
        ("f", "nodes/m/qemu-server/100.conf", Exists),
        ("f", "nodes/x/qemu-server/100.conf", Exists),
        ("f", "nodes/n/lxc/100.conf", Exists),
        (
            "nodes/n/qemu-server/101.conf",
            "nodes/m/qemu-server/100.conf",
            Exists,
        ),
        ("priv/lock/a", "b", Access),
        ("priv/lock/a", "full", Access),
        ("priv/lock/a", "x/y", Access),
        ("priv/lock/a", "priv/lock/a", Access),
        ("f", "", Access),
        ("f", "full", NotEmpty),
        ("full", "one", NotEmpty),
        ("full", "full", NotEmpty),
        ("full", "priv", NotEmpty),
        ("f", "x/y", NotFound),
        ("f", "f/x", NotDirectory),
        ("f", "g/x", NotDirectory),
        ("f", "f/x/y", NotFound),
        ("full", "x/y", NotFound),
        ("f", "empty/.", Access),
        ("f", "empty/..", Access),
        ("f", "..", Access),
        ("full", "somewhere", NotEmpty),
        ("full", "full/z", NotEmpty),
        ("f", "./g", Invalid),
        ("empty", "empty/x", Invalid),
        ("empty", "empty//x", Invalid),
        ("one", "one/x", Invalid),
    ];
    for rules in [Rules::Local, Rules::Replicated] {
        let mut bench = bench(rules);
        let before = bench.state();
        for (from, to, error) in table {
            assert_eq!(bench.rename(from, to), Err(*error), "{from} to {to}");
            assert_eq!(bench.changes, NO_EFFECT, "{from} to {to}");
            assert_eq!(bench.state(), before, "{from} to {to}");
        }
    }
}

#[test]
fn an_entry_onto_itself_succeeds_without_a_change() {
    let mut bench = bench(Rules::Replicated);
    let before = bench.state();
    for (from, to) in [
        ("f", "f"),
        ("f", "/f/"),
        ("empty", "empty"),
        ("nodes//n/lxc/200.conf", "nodes/n/lxc/200.conf"),
    ] {
        assert_eq!(bench.rename(from, to), Ok(0), "{from} to {to}");
        assert_eq!(bench.changes, NO_EFFECT);
        assert_eq!(bench.state(), before);
    }
}

#[test]
fn a_moved_entry_keeps_inode_and_content_and_is_marked() {
    for (from, to, name) in [
        ("f", "empty/new", "new"),
        ("f", "moved", "moved"),
        ("f", "empty//z/", "z"),
    ] {
        let mut bench = bench(Rules::Local);
        bench.write("f", 0, b"content").expect("written");
        let (before, directory) = (bench.at(from).clone(), bench.at("empty").clone());
        bench.stamp = Stamp {
            writer: 8,
            mtime: 77,
        };
        assert_eq!(bench.rename(from, to), Ok(0));
        let version = bench.tree.root().version;
        let root = RootState {
            version: before.version + 1,
            writer: 8,
            mtime: 77,
        };
        assert_eq!(bench.tree.root(), root);
        let after = bench.at(to);
        assert_eq!(after.inode, before.inode);
        assert_eq!((after.version, after.writer, after.mtime), (version, 8, 77));
        assert_eq!((&after.data, after.size), (&before.data, before.size));
        assert_eq!(after.name, name);
        assert!(!bench.exists(from));
        assert_eq!(
            bench.changes,
            [Change::Put {
                inode: before.inode
            }]
        );
        if to.starts_with("empty") {
            assert_eq!(bench.at("empty"), &directory, "directories are not touched");
        }
    }
}

#[test]
fn a_target_of_any_type_is_replaced_in_one_step() {
    for (from, to) in [
        ("f", "g"),
        ("f", "empty"),
        ("empty", "f"),
        ("empty", "nodes/m/qemu-server"),
    ] {
        let mut bench = bench(Rules::Replicated);
        let (source, target) = (bench.at(from).clone(), bench.at(to).clone());
        let version = bench.tree.root().version;
        let count = bench.tree.entry_count();
        assert_eq!(bench.rename(from, to), Ok(0), "{from} to {to}");
        assert_eq!(bench.tree.root().version, version + 1);
        assert_eq!(bench.tree.entry_count(), count - 1);
        assert_eq!(bench.inode(to), source.inode);
        assert_eq!(bench.at(to).name, target.name);
        assert_eq!(bench.tree.entry(target.inode), None);
        let reported = [
            Change::Removed {
                inode: target.inode,
                parent: target.parent,
                name: target.name,
            },
            Change::Put {
                inode: source.inode,
            },
        ];
        assert_eq!(bench.changes, reported);
    }
}

#[test]
fn a_moved_directory_takes_new_entries_at_its_new_place() {
    let mut bench = bench(Rules::Local);
    bench.rename("empty", "nodes/k").expect("renamed");
    bench.mkdir("nodes/k/sub").expect("made");
    let path = bench.tree.path_of(bench.inode("nodes/k/sub"));
    assert_eq!(path, Some(Bytes::from_static(b"nodes/k/sub")));
}

#[test]
fn a_directory_with_entries_takes_its_target_along_among_c_peers() {
    for (from, to) in [("full", "empty"), ("full", "f"), ("full", "full/x")] {
        let mut bench = bench(Rules::Replicated);
        let target = bench.at(to).clone();
        let root = bench.tree.root();
        assert_eq!(bench.rename(from, to), Err(NotEmpty), "{from} to {to}");
        assert!(!bench.exists(to), "{to}");
        assert!(bench.exists("full/y"));
        assert_eq!(bench.tree.root(), root, "without a version");
        let reported = Change::Removed {
            inode: target.inode,
            parent: target.parent,
            name: target.name,
        };
        assert_eq!(bench.changes, [reported]);
        assert_eq!(bench.mkdir(to), Ok(0), "the name is free");
    }
    let mut bench = bench(Rules::Local);
    let before = bench.state();
    assert_eq!(bench.rename("full", "empty"), Err(NotEmpty));
    assert_eq!(bench.state(), before);
}

#[test]
fn both_names_count_even_when_a_directory_with_entries_is_refused() {
    let mut bench = Bench::of(
        Rules::Local,
        &["user.cfg!", "storage.cfg!", "vzdump.cron", "vzdump.cron/x!"],
    );
    let counts = |bench: &Bench| {
        ["user.cfg", "storage.cfg", "vzdump.cron", "ceph.conf"].map(|path| bench.file_version(path))
    };
    assert_eq!(counts(&bench), [1, 1, 0, 0]);
    bench.rename("user.cfg", "storage.cfg").expect("replaced");
    assert_eq!(counts(&bench), [2, 2, 0, 0]);
    bench.rename("storage.cfg", "other").expect("renamed");
    assert_eq!(counts(&bench), [2, 3, 0, 0]);
    bench.rename("other", "user.cfg").expect("renamed");
    assert_eq!(counts(&bench), [3, 3, 0, 0]);
    assert_eq!(bench.rename("vzdump.cron", "ceph.conf"), Err(NotEmpty));
    assert_eq!(counts(&bench), [3, 3, 1, 1]);
    assert_eq!(bench.rename("missing", "ceph.conf"), Err(NotFound));
    assert_eq!(counts(&bench), [3, 3, 1, 1]);
}

#[test]
fn directories_may_move_into_the_lock_directory_but_not_out() {
    let mut bench = bench(Rules::Local);
    assert_eq!(bench.rename("empty", "priv/lock/b"), Ok(0));
    assert_eq!(bench.rename("priv/lock/b", "empty"), Err(Access));
    assert_eq!(bench.rename("priv/lock/file", "file"), Ok(0), "files may");
    bench.delete("priv/lock/a").expect("deleted");
    bench.delete("priv/lock/b").expect("deleted");
    assert_eq!(
        bench.rename("priv/lock", "lock"),
        Ok(0),
        "it is an ordinary directory"
    );
}
