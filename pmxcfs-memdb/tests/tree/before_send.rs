//! What is refused before an operation is sent or applied.

use bytes::Bytes;
use pmxcfs_api_types::FsError::{
    Access, Exists, Invalid, IsDirectory, NoSpace, NotDirectory, NotEmpty, NotFound, TooBig,
};
use pmxcfs_memdb::{
    Operation,
    Precheck::{FillWithZeros, NothingToDo, Proceed},
    RootState, Rules, Tree,
};

use crate::harness::{Bench, create, delete, directory, file, mkdir, rename, set_mtime, write};

const MIB: u64 = 1024 * 1024;

fn bench(rules: Rules) -> Bench {
    Bench::of(
        rules,
        &[
            "f!",
            "g!",
            "empty",
            "full",
            "full/x!",
            "priv",
            "priv/lock",
            "priv/lock/a",
            "priv/lock/a/b",
            "nodes",
            "nodes/n",
            "nodes/n/lxc",
            "nodes/b_x",
        ],
    )
}

#[test]
fn large_writes_are_refused_with_all_64_bits() {
    let bench = bench(Rules::Replicated);
    for (path, offset, data, truncate, result) in [
        ("f", 1 << 32, &b""[..], true, Err(TooBig)),
        ("f", 1 << 32, b"x", false, Err(TooBig)),
        ("f", u64::MAX, b"x", false, Err(TooBig)),
        ("missing", MIB, b"x", false, Err(TooBig)),
        ("f", MIB - 1, b"x", false, Ok(Proceed)),
        ("missing", 0, b"x", false, Ok(Proceed)),
    ] {
        assert_eq!(bench.check(&write(path, offset, data, truncate)), result);
    }
}

#[test]
fn holes_are_never_made() {
    for rules in [Rules::Local, Rules::Replicated] {
        let mut bench = bench(rules);
        let fill = |size| Ok(FillWithZeros { size });
        assert_eq!(bench.check(&write("f", 100, b"", true)), fill(100));
        assert_eq!(bench.check(&write("f", 100, b"", false)), fill(100));
        assert_eq!(bench.check(&write("f", 0, b"", true)), Ok(Proceed));
        assert_eq!(bench.check(&write("f", 100, b"x", false)), Ok(Proceed));
        bench.truncate("f", 100).expect("as a peer may send it");
        assert_eq!(bench.check(&write("f", 50, b"", true)), fill(50));
        assert_eq!(bench.check(&write("f", 0, b"", true)), Ok(Proceed));
        bench.write("f", 0, b"x").expect("written");
        assert_eq!(bench.check(&write("f", 100, b"", true)), Ok(Proceed));
    }
}

#[test]
fn filling_with_zeros_gives_the_size_that_was_asked_for() {
    for before in [0, 300_000] {
        let mut bench = bench(Rules::Replicated);
        bench.truncate("f", before).expect("as a peer may send it");
        let truncate = write("f", 200_000, b"", true);
        assert_eq!(bench.check(&truncate), Ok(FillWithZeros { size: 200_000 }));
        bench.write("f", 0, &[0; 131_072]).expect("written");
        bench
            .write("f", 131_072, &[0; 200_000 - 131_072])
            .expect("written");
        assert!(!bench.at("f").is_hole());
        assert_eq!(bench.at("f").data, vec![0; 200_000]);
    }
}

#[test]
fn a_name_with_a_nul_would_be_cut_on_the_way() {
    let bench = bench(Rules::Local);
    let path = Bytes::from_static(b"a\0b");
    let good = Bytes::from_static(b"f");
    for operation in [
        Operation::Mkdir { path: path.clone() },
        Operation::Create { path: path.clone() },
        Operation::Delete { path: path.clone() },
        Operation::SetMtime {
            path: path.clone(),
            mtime: 1,
        },
        Operation::Write {
            path: path.clone(),
            offset: 0,
            data: Bytes::new(),
            truncate: false,
        },
        Operation::Rename {
            from: good.clone(),
            to: path.clone(),
        },
        Operation::Rename {
            from: path.clone(),
            to: good.clone(),
        },
    ] {
        assert_eq!(bench.check(&operation), Err(Invalid), "{operation:?}");
    }
}

#[test]
fn renames_that_harm_c_peers() {
    let table = [
        (rename("full", "empty"), Err(NotEmpty)),
        (rename("full", "f"), Err(NotDirectory)),
        (rename("empty", "f"), Err(NotDirectory)),
        (rename("f", "empty"), Err(IsDirectory)),
        (rename("empty", "empty/x"), Err(Invalid)),
        (rename("full", "full/y"), Err(Invalid)),
        (rename("f", "empty/.."), Err(Access)),
        (rename("f", "./g"), Err(Invalid)),
        (rename("f", "."), Ok(Proceed)),
        (rename("f", ".."), Err(Access)),
        (rename("f", "f"), Ok(NothingToDo)),
        (rename("empty", "empty"), Ok(NothingToDo)),
        (rename("f", "g"), Ok(Proceed)),
        (rename("f", "new"), Ok(Proceed)),
        (rename("empty", "new"), Ok(Proceed)),
        (rename("missing", "f"), Ok(Proceed)),
        (rename("f", "missing/x"), Ok(Proceed)),
        (rename("full", "missing/x"), Ok(Proceed)),
        (rename("priv/lock/a", "empty"), Ok(Proceed)),
    ];
    for rules in [Rules::Local, Rules::Replicated] {
        let bench = bench(rules);
        for (operation, result) in &table {
            assert_eq!(bench.check(operation), *result, "{operation:?}");
        }
    }
}

#[test]
fn guest_directories_stay_directories() {
    let bench = bench(Rules::Local);
    for (operation, result) in [
        (create("nodes/n/qemu-server"), Err(Access)),
        (create("nodes/n/openvz"), Err(Access)),
        (create("//nodes/n/qemu-server/"), Err(Access)),
        (rename("f", "nodes/n/qemu-server"), Err(Access)),
        (create("nodes/n/lxc"), Ok(Proceed)),
        (create("nodes/b_x/lxc"), Ok(Proceed)),
        (create("nodes/n/lxc/lxc"), Ok(Proceed)),
        (create("nodes/lxc"), Ok(Proceed)),
        (create("lxc"), Ok(Proceed)),
        (mkdir("nodes/n/qemu-server"), Ok(Proceed)),
        (rename("empty", "nodes/n/qemu-server"), Ok(Proceed)),
    ] {
        assert_eq!(bench.check(&operation), result, "{operation:?}");
    }
}

#[test]
fn directories_are_not_called_like_configs_among_peers() {
    for (rules, result) in [
        (Rules::Local, Ok(Proceed)),
        (Rules::Replicated, Err(Access)),
    ] {
        let bench = bench(rules);
        assert_eq!(bench.check(&mkdir("nodes/n/lxc/100.conf")), result);
        assert_eq!(
            bench.check(&rename("empty", "nodes/n/lxc/100.conf")),
            result
        );
        assert_eq!(bench.check(&mkdir("nodes/n/lxc/0100.conf")), Ok(Proceed));
        assert_eq!(bench.check(&create("nodes/n/lxc/100.conf")), Ok(Proceed));
        assert_eq!(
            bench.check(&rename("f", "nodes/n/lxc/100.conf")),
            Ok(Proceed)
        );
    }
}

#[test]
fn the_size_of_the_filesystem_is_a_limit_for_growth() {
    let mut bench = Bench::new(Rules::Local);
    let mut block = vec![0; 1 << 20];
    for i in 0..128 {
        let path = format!("f{i}");
        bench.create(&path).expect("made");
        if i == 127 {
            block.pop();
        }
        bench.write(&path, 0, &block).expect("written");
    }
    let last = MIB - 1;
    assert_eq!(
        bench.check(&write("f127", last, b"x", false)),
        Ok(Proceed),
        "full to the byte"
    );
    bench.create("small").expect("made");
    assert_eq!(bench.check(&write("small", 0, b"x", false)), Ok(Proceed));
    assert_eq!(bench.check(&write("small", 0, b"xy", false)), Err(NoSpace));
    assert_eq!(bench.check(&write("small", 2, b"", true)), Err(NoSpace));
    assert_eq!(
        bench.check(&write("f0", 0, b"overwritten", false)),
        Ok(Proceed)
    );
    assert_eq!(bench.check(&write("f0", 0, b"", true)), Ok(Proceed));
    assert_eq!(bench.check(&write("missing", 0, b"xy", false)), Ok(Proceed));

    bench
        .write("small", 0, b"peers do not look at the limit")
        .expect("written");
    assert_eq!(bench.check(&write("small", 0, b"xy", false)), Ok(Proceed));
    assert_eq!(bench.check(&write("f0", 9, b"", true)), Ok(Proceed));
    assert_eq!(
        bench.check(&write("f127", 0, &[1; 1 << 20], false)),
        Err(NoSpace)
    );
}

#[test]
fn the_number_of_inodes_is_a_limit_for_new_entries() {
    let count = 262_144;
    let mut entries = vec![directory(2, 0, "d")];
    entries.extend((3..count).map(|inode| file(inode, 2, &inode.to_string(), "")));
    let root = RootState {
        version: count,
        ..RootState::default()
    };
    let tree = Tree::from_entries(root, entries, Rules::Local, 0).expect("a tree");
    let mut bench = Bench::with(tree);
    assert_eq!(bench.tree.statfs().files_free, 1);
    assert_eq!(bench.check(&mkdir("x")), Ok(Proceed));
    bench.mkdir("x").expect("made");
    assert_eq!(bench.tree.statfs().files_free, 0);
    for (operation, at_delivery) in [
        (mkdir("d"), Err(Exists)),
        (create("d/3"), Err(Exists)),
        (create("missing/y"), Err(NotFound)),
    ] {
        assert_eq!(bench.check(&operation), Ok(Proceed), "{operation:?}");
        assert_eq!(bench.apply(&operation), at_delivery, "{operation:?}");
    }
    for operation in [mkdir("y"), create("d/y")] {
        assert_eq!(bench.check(&operation), Err(NoSpace), "{operation:?}");
    }
    for operation in [rename("d/3", "y"), delete("d/4"), set_mtime("d", 5)] {
        assert_eq!(bench.check(&operation), Ok(Proceed), "{operation:?}");
        assert_eq!(bench.apply(&operation), Ok(0), "{operation:?}");
    }
    assert_eq!(bench.check(&mkdir("z")), Ok(Proceed), "one is free again");
}
