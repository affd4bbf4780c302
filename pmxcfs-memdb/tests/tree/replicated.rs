//! Delivered operations, row by row as C peers decide them: every check before every later one.
//!
//! A row makes two checks fail at once wherever that is possible, so that a changed order shows. Nodes that decide
//! differently end up with different trees.

use pmxcfs_api_types::FsError::{
    Access, Exists, Invalid, IsDirectory, NotDirectory, NotEmpty, NotFound, TooBig,
};
use pmxcfs_memdb::Precheck::{FillWithZeros, NothingToDo, Proceed};
use pmxcfs_memdb::{Change, Operation, Precheck, RootState, Rules, Stamp};

use crate::harness::{Bench, NO_EFFECT, Outcome, create, delete, mkdir, rename, set_mtime, write};

const MIB: u64 = 1024 * 1024;

/// Guest 100 is a VM of node `n`. Node `m` has directories where it could be too: one with the name of its config, and a
/// file in place of its directory for VMs.
fn bench() -> Bench {
    Bench::of(
        Rules::Replicated,
        &[
            "f!",
            "g!",
            "empty",
            "full",
            "full/x!",
            "priv",
            "priv/lock",
            "priv/lock/held",
            "priv/lock/used",
            "priv/lock/used/x",
            "priv/lock/file!",
            "nodes",
            "nodes/n",
            "nodes/n/qemu-server",
            "nodes/n/qemu-server/100.conf!",
            "nodes/n/qemu-server/101.conf!",
            "nodes/m",
            "nodes/m/lxc",
            "nodes/m/lxc/100.conf",
            "nodes/m/lxc/100.conf/x!",
            "nodes/m/qemu-server!",
        ],
    )
}

struct Row {
    name: &'static str,
    operation: Operation,
    outcome: Outcome,
}

fn row(name: &'static str, operation: Operation, outcome: Outcome) -> Row {
    Row {
        name,
        operation,
        outcome,
    }
}

/// Applies every row to a fresh tree. What is refused changes nothing; what succeeds is one step.
fn check(rows: Vec<Row>) {
    for Row {
        name,
        operation,
        outcome,
    } in rows
    {
        let mut bench = bench();
        bench.stamp = Stamp {
            writer: 3,
            mtime: 2000,
        };
        let before = bench.state();
        let root = bench.tree.root();
        assert_eq!(bench.apply(&operation), outcome, "{name}: {operation:?}");
        if outcome.is_err() {
            assert_eq!(bench.state(), before, "{name}");
            assert_eq!(bench.changes, NO_EFFECT, "{name}");
            continue;
        }
        let mtime = match operation {
            Operation::SetMtime { mtime, .. } => mtime,
            _ => 2000,
        };
        let expected = RootState {
            version: root.version + 1,
            writer: 3,
            mtime,
        };
        assert_eq!(bench.tree.root(), expected, "{name}");
        assert_ne!(bench.changes, NO_EFFECT, "{name}");
    }
}

#[test]
fn write_as_c_peers_decide_it() {
    for truncate in [false, true] {
        let write = |path, offset, data: &[u8]| write(path, offset, data, truncate);
        check(vec![
            row("size before parent", write("x/y", MIB, b"z"), Err(TooBig)),
            row(
                "size before type of parent",
                write("f/y", MIB, b"z"),
                Err(TooBig),
            ),
            row("size before name", write("empty/.", MIB, b"z"), Err(TooBig)),
            row(
                "size before guest",
                write("nodes/m/lxc/100.conf", MIB, b"z"),
                Err(TooBig),
            ),
            row("size before type", write("empty", MIB, b"z"), Err(TooBig)),
            row(
                "size before existence",
                write("missing", MIB + 1, b""),
                Err(TooBig),
            ),
            row("parent before name", write("x/.", 0, b"z"), Err(NotFound)),
            row("below a file", write("f/x/y", 0, b"z"), Err(NotFound)),
            row(
                "parent before guest",
                write("nodes/x/lxc/100.conf", 0, b"z"),
                Err(NotFound),
            ),
            row(
                "type of parent before name",
                write("f/..", 0, b"z"),
                Err(NotDirectory),
            ),
            row(
                "type of parent before guest",
                write("nodes/m/qemu-server/100.conf", 0, b"z"),
                Err(NotDirectory),
            ),
            row("name before type", write("empty/.", 0, b"z"), Err(Access)),
            row("name", write("full/..", 0, b"z"), Err(Access)),
            row("root", write("", 0, b"z"), Err(Access)),
            row("root", write("/", 0, b"z"), Err(Access)),
            row(
                "guest before type",
                write("nodes/m/lxc/100.conf", 0, b"z"),
                Err(Exists),
            ),
            row(
                "guest before existence",
                write("nodes/m/lxc/101.conf", 0, b"z"),
                Err(Exists),
            ),
            row("type", write("full", 0, b"z"), Err(NotDirectory)),
            row("existence", write("missing", 0, b"z"), Err(NotFound)),
            row(
                "existence of a config",
                write("nodes/m/lxc/102.conf", 0, b"z"),
                Err(NotFound),
            ),
            row("all of it", write("f", MIB - 1, b"z"), Ok(1)),
            row("nothing", write("f", 0, b""), Ok(0)),
            row(
                "own config",
                write("nodes/n/qemu-server/100.conf", 0, b"zz"),
                Ok(2),
            ),
            row("a hole", write("f", 10, b""), Ok(0)),
        ]);
    }
}

#[test]
fn create_as_c_peers_decide_it() {
    check(vec![
        row("parent before name", create("x/."), Err(NotFound)),
        row(
            "parent before guest",
            create("nodes/x/lxc/100.conf"),
            Err(NotFound),
        ),
        row(
            "type of parent before name",
            create("f/.."),
            Err(NotDirectory),
        ),
        row(
            "type of parent before guest",
            create("nodes/m/qemu-server/100.conf"),
            Err(NotDirectory),
        ),
        row("name", create("empty/."), Err(Access)),
        row("root", create("."), Err(Access)),
        row(
            "guest before type",
            create("nodes/m/lxc/100.conf"),
            Err(Exists),
        ),
        row(
            "guest of other kind",
            create("nodes/m/lxc/101.conf"),
            Err(Exists),
        ),
        row("type", create("empty"), Err(NotDirectory)),
        row("taken", create("f"), Err(Exists)),
        row(
            "own config is taken",
            create("nodes/n/qemu-server/100.conf"),
            Err(Exists),
        ),
        row("free", create("empty/new"), Ok(0)),
        row("free id", create("nodes/m/lxc/102.conf"), Ok(0)),
        row(
            "a file where peers want a directory",
            create("nodes/m/openvz"),
            Ok(0),
        ),
    ]);
}

#[test]
fn mkdir_as_c_peers_decide_it() {
    check(vec![
        row("parent before name", mkdir("x/."), Err(NotFound)),
        row(
            "type of parent before name",
            mkdir("f/.."),
            Err(NotDirectory),
        ),
        row("name", mkdir("full/.."), Err(Access)),
        row("root", mkdir("/"), Err(Access)),
        row("taken by a file", mkdir("f"), Err(Exists)),
        row("taken by a directory", mkdir("full/"), Err(Exists)),
        row("free", mkdir("full/d"), Ok(0)),
        row("no rule for guests", mkdir("nodes/m/lxc/101.conf"), Ok(0)),
    ]);
}

#[test]
fn delete_as_c_peers_decide_it() {
    check(vec![
        row("missing", delete("missing"), Err(NotFound)),
        row("below a file", delete("f/x"), Err(NotFound)),
        row("dots are names", delete("full/."), Err(NotFound)),
        row("root before its entries", delete(""), Err(Access)),
        row("root", delete("/"), Err(Access)),
        row("root", delete("."), Err(Access)),
        row("not empty", delete("full"), Err(NotEmpty)),
        row(
            "not empty, called like a config",
            delete("nodes/m/lxc/100.conf"),
            Err(NotEmpty),
        ),
        row("a file", delete("full/x"), Ok(0)),
        row("a directory", delete("empty"), Ok(0)),
        row("a lock of somebody", delete("priv/lock/held"), Ok(0)),
        row("a config", delete("nodes/n/qemu-server/100.conf"), Ok(0)),
    ]);
}

#[test]
fn rename_as_c_peers_decide_it() {
    let config = "nodes/n/qemu-server/100.conf";
    check(vec![
        row("source before all", rename("missing", ""), Err(NotFound)),
        row("source below a file", rename("f/x", "full"), Err(NotFound)),
        row("root before target", rename("", "x/y"), Err(Access)),
        row("root", rename(".", "full"), Err(Access)),
        row(
            "guest before entries",
            rename("f", "nodes/m/lxc/100.conf"),
            Err(Exists),
        ),
        row(
            "guest before parent",
            rename("f", "nodes/x/lxc/100.conf"),
            Err(Exists),
        ),
        row(
            "guest before type of parent",
            rename("f", "nodes/m/qemu-server/100.conf"),
            Err(Exists),
        ),
        row(
            "guest, from another config",
            rename("nodes/n/qemu-server/101.conf", "nodes/m/lxc/100.conf"),
            Err(Exists),
        ),
        row(
            "no guest rule for own id",
            rename(config, "nodes/m/lxc/100.conf"),
            Err(NotEmpty),
        ),
        row(
            "no guest rule for directories",
            rename("empty", "nodes/m/lxc/101.conf"),
            Ok(0),
        ),
        row(
            "lock before root",
            rename("priv/lock/held", ""),
            Err(Access),
        ),
        row(
            "lock before entries of target",
            rename("priv/lock/held", "full"),
            Err(Access),
        ),
        row(
            "lock before parent",
            rename("priv/lock/held", "x/y"),
            Err(Access),
        ),
        row(
            "lock before own entries",
            rename("priv/lock/used", "new"),
            Err(Access),
        ),
        row(
            "lock at any depth",
            rename("priv/lock/used/x", "new"),
            Err(Access),
        ),
        row(
            "lock directory itself",
            rename("priv/lock", "new"),
            Err(NotEmpty),
        ),
        row("not a lock path", rename("priv//lock/held", "new"), Ok(0)),
        row("a file is no lock", rename("priv/lock/file", "new"), Ok(0)),
        row("target root", rename("f", "/"), Err(Access)),
        row(
            "target root before own entries",
            rename("full", "."),
            Err(Access),
        ),
        row("entries of target", rename("f", "full"), Err(NotEmpty)),
        row("parent", rename("f", "x/y"), Err(NotFound)),
        row(
            "parent before own entries",
            rename("full", "x/y"),
            Err(NotFound),
        ),
        row(
            "type of parent before own entries",
            rename("full", "f/y"),
            Err(NotDirectory),
        ),
        row("own entries", rename("full", "new"), Err(NotEmpty)),
        row("over a file", rename("f", "g"), Ok(0)),
        row("a file over a directory", rename("f", "empty"), Ok(0)),
        row("a directory over a file", rename("empty", "f"), Ok(0)),
        row("a directory over a config", rename("empty", config), Ok(0)),
        row(
            "a guest that moves",
            rename(config, "nodes/m/lxc/102.conf"),
            Ok(0),
        ),
        row("into the locks", rename("empty", "priv/lock/new"), Ok(0)),
    ]);
}

#[test]
fn set_mtime_as_c_peers_decide_it() {
    let lock = "priv/lock/held";
    check(vec![
        row("parent before name", set_mtime("x/.", 1), Err(NotFound)),
        row(
            "type of parent before name",
            set_mtime("f/.", 1),
            Err(NotDirectory),
        ),
        row("name", set_mtime("full/..", 1), Err(Access)),
        row("root", set_mtime("", 1), Err(Access)),
        row("missing", set_mtime("missing", 1), Err(NotFound)),
        row(
            "missing lock",
            set_mtime("priv/lock/missing", 0),
            Err(NotFound),
        ),
        row("older than the lock", set_mtime(lock, 999), Err(Access)),
        row("an unlock", set_mtime(lock, 0), Err(Access)),
        row("as old as the lock", set_mtime(lock, 1000), Ok(0)),
        row("a refresh", set_mtime(lock, 5000), Ok(0)),
        row(
            "no lock rule below",
            set_mtime("priv/lock/used/x", 0),
            Ok(0),
        ),
        row(
            "no lock rule for files",
            set_mtime("priv/lock/file", 0),
            Ok(0),
        ),
        row(
            "no lock rule for other spellings",
            set_mtime("priv//lock/held", 0),
            Ok(0),
        ),
        row(
            "the lock directory itself",
            set_mtime("priv/lock", 0),
            Ok(0),
        ),
        row("no guest rule", set_mtime("nodes/m/lxc/100.conf", 7), Ok(0)),
    ]);
    let mut other = bench();
    other.stamp.writer = 4;
    assert_eq!(
        other.set_mtime(lock, 5000),
        Err(Access),
        "another node's lock"
    );
    assert_eq!(other.set_mtime(lock, 1), Err(Access));
    assert_eq!(other.set_mtime("priv/lock/used/x", 1), Ok(0));
}

#[test]
fn a_directory_with_entries_takes_its_target_along_without_a_step() {
    let mut bench = bench();
    let (root, target) = (bench.tree.root(), bench.inode("empty"));
    assert_eq!(bench.rename("full", "empty"), Err(NotEmpty));
    let expected = Change::Removed {
        inode: target,
        parent: 0,
        name: "empty".into(),
    };
    assert_eq!(bench.changes, [expected]);
    assert_eq!(bench.tree.root(), root);
    assert!(!bench.exists("empty") && bench.exists("full/x"));
    // The name is free again, for C peers too.
    assert_eq!(bench.mkdir("empty"), Ok(0));
}

#[test]
fn removing_a_directory_with_the_name_of_a_config_takes_the_guest_off_the_list() {
    let mut bench = bench();
    bench.delete("nodes/m/lxc/100.conf/x").expect("removed");
    assert_eq!(bench.delete("nodes/m/lxc/100.conf"), Ok(0));
    assert_eq!(bench.guests(), ["101 n qemu"]);
    // Peers take the id a second time, so it must be taken here.
    assert_eq!(bench.create("nodes/m/lxc/100.conf"), Ok(0));
    assert_eq!(bench.guests(), ["100 m lxc", "101 n qemu"]);
}

/// One row for each thing that a C peer carries out to its harm, with what is done instead.
#[test]
fn what_harms_c_peers_is_not_sent() {
    let long = |offset| write("f", offset, b"", true);
    let table: [(&str, Operation, Result<Precheck, _>); 18] = [
        (
            "a size without data, by truncate",
            long(8),
            Ok(FillWithZeros { size: 8 }),
        ),
        (
            "a size without data, by an empty write",
            write("f", 8, b"", false),
            Ok(FillWithZeros { size: 8 }),
        ),
        ("an offset cut to 32 bits", long(1 << 32), Err(TooBig)),
        (
            "an end cut to 32 bits",
            write("f", u64::from(u32::MAX), b"xx", false),
            Err(TooBig),
        ),
        (
            "entries left without a parent",
            rename("full", "empty"),
            Err(NotEmpty),
        ),
        ("the same entry", rename("f", "f"), Ok(NothingToDo)),
        (
            "the same directory",
            rename("empty", "/empty/"),
            Ok(NothingToDo),
        ),
        (
            "a directory in itself",
            rename("empty", "empty/x"),
            Err(Invalid),
        ),
        (
            "a name that no program can open",
            rename("f", "empty/.."),
            Err(Access),
        ),
        ("the same, in the root", rename("f", ".."), Err(Access)),
        ("a second entry of a name", rename("f", "./g"), Err(Invalid)),
        (
            "a file over a directory",
            rename("f", "empty"),
            Err(IsDirectory),
        ),
        (
            "a directory over a file",
            rename("empty", "f"),
            Err(NotDirectory),
        ),
        (
            "a directory over a config, whose guest stays on the list",
            rename("empty", "nodes/n/qemu-server/100.conf"),
            Err(NotDirectory),
        ),
        (
            "a directory called like a config",
            mkdir("nodes/n/qemu-server/7.conf"),
            Err(Access),
        ),
        (
            "the same by a move",
            rename("empty", "nodes/n/qemu-server/7.conf"),
            Err(Access),
        ),
        (
            "a file where a start wants a directory",
            create("nodes/n/lxc"),
            Err(Access),
        ),
        (
            "the same by a move",
            rename("f", "nodes/n/openvz"),
            Err(Access),
        ),
    ];
    let bench = bench();
    for (harm, operation, expected) in table {
        assert_eq!(bench.check(&operation), expected, "{harm}: {operation:?}");
    }
}

/// What is refused at delivery anyway is told by those checks, in their order, and not by the ones before sending.
#[test]
fn what_is_possible_is_left_to_the_delivery() {
    for operation in [
        write("missing", 0, b"z", false),
        write("full", 0, b"z", true),
        write("nodes/m/lxc/100.conf", 0, b"z", false),
        create("f"),
        create("x/y"),
        create("nodes/m/lxc/101.conf"),
        mkdir("f"),
        mkdir("f/x"),
        delete("full"),
        delete(""),
        rename("missing", "empty/.."),
        rename("priv/lock/used", "empty"),
        rename("f", "x/y"),
        rename("f", ""),
        set_mtime("priv/lock/held", 0),
        set_mtime("", 5),
    ] {
        let mut bench = bench();
        assert_eq!(bench.check(&operation), Ok(Proceed), "{operation:?}");
        assert!(bench.apply(&operation).is_err(), "{operation:?}");
    }
}
