//! The guest list: what enters it, what leaves it, what it refuses.

use pmxcfs_api_types::{
    FsError::{Exists, NotFound},
    Vmid,
};
use pmxcfs_memdb::{Finding, Problem, RootState, Rules, Tree};

use crate::harness::{Bench, bytes, directory, file};

const ON_A: &str = "nodes/a/qemu-server/100.conf";
const ON_B: &str = "nodes/b/qemu-server/100.conf";
const LXC_ON_B: &str = "nodes/b/lxc/100.conf";

fn bench(rules: Rules) -> Bench {
    Bench::of(
        rules,
        &[
            "nodes",
            "nodes/a",
            "nodes/a/qemu-server",
            "nodes/a/lxc",
            "nodes/a/openvz",
            "nodes/b",
            "nodes/b/qemu-server",
            "nodes/b/lxc",
            "nodes/b_x",
            "nodes/b_x/qemu-server",
            "f!",
        ],
    )
}

impl Bench {
    /// Version of the list, and of the guest with id 100.
    fn list_versions(&self) -> (u32, Option<u32>) {
        let list = self.tree.guests();
        let guest = list.guests.get(&Vmid(100));
        (list.version, guest.map(|guest| guest.version))
    }
}

#[test]
fn a_guest_is_registered_by_create_and_by_each_write() {
    let mut bench = bench(Rules::Replicated);
    assert_eq!(bench.list_versions(), (0, None));
    assert_eq!(bench.create(ON_A), Ok(0));
    assert_eq!(bench.guests(), ["100 a qemu"]);
    assert_eq!(bench.list_versions(), (1, Some(1)));
    bench.write(ON_A, 0, b"x").expect("written");
    bench.truncate(ON_A, 0).expect("truncated");
    assert_eq!(bench.list_versions(), (3, Some(3)));
    bench.create("nodes/a/lxc/4294967295.conf").expect("made");
    assert_eq!(bench.list_versions(), (4, Some(3)));
    bench.set_mtime(ON_A, 5).expect("touched");
    assert_eq!(bench.list_versions(), (4, Some(3)));
    assert_eq!(bench.guests(), ["100 a qemu", "4294967295 a lxc"]);
}

#[test]
fn an_id_is_used_once_in_the_cluster() {
    let mut bench = bench(Rules::Replicated);
    bench.create(ON_A).expect("made");
    let before = bench.state();
    for path in [
        ON_B,
        LXC_ON_B,
        "nodes/a/lxc/100.conf",
        "nodes/a/openvz/100.conf",
    ] {
        assert_eq!(bench.create(path), Err(Exists), "{path}");
        assert_eq!(
            bench.write(path, 0, b"x"),
            Err(Exists),
            "{path}: before it is missing"
        );
        assert_eq!(bench.rename("f", path), Err(Exists), "{path}");
    }
    assert_eq!(bench.write("nodes/a/lxc/101.conf", 0, b"x"), Err(NotFound));
    assert_eq!(bench.state(), before);
}

#[test]
fn openvz_guests_are_guests() {
    let mut bench = bench(Rules::Replicated);
    bench.create("nodes/a/openvz/100.conf").expect("made");
    assert_eq!(bench.create(ON_A), Err(Exists));
    let guest = &bench.tree.guests().guests[&Vmid(100)];
    assert_eq!((guest.kind.name(), &guest.node[..]), ("openvz", &b"a"[..]));
}

#[test]
fn only_literal_config_paths_count() {
    let mut bench = bench(Rules::Replicated);
    for path in [
        "nodes/a/qemu-server/0100.conf",
        "nodes/a/qemu-server/100.conf.tmp",
        "nodes/a/qemu-server/4294967296.conf",
        "nodes/b_x/qemu-server/100.conf",
        "nodes/a/100.conf",
        "/nodes/a/qemu-server/102.conf",
        "nodes/a//qemu-server/103.conf",
    ] {
        bench.create(path).expect("made");
    }
    bench.mkdir("nodes/a/qemu-server/104.conf").expect("made");
    assert_eq!(bench.list_versions(), (0, None));
    assert_eq!(bench.guests(), [""; 0]);
}

#[test]
fn deleting_a_config_takes_its_guest_off() {
    let mut bench = bench(Rules::Replicated);
    bench.create(ON_A).expect("made");
    bench.delete(ON_A).expect("deleted");
    assert_eq!(bench.guests(), [""; 0]);
    assert_eq!(bench.list_versions(), (2, None));
    assert_eq!(bench.create(LXC_ON_B), Ok(0), "the id is free");
    assert_eq!(bench.list_versions(), (3, Some(2)));
}

#[test]
fn migration_is_one_rename_and_two_versions() {
    for to in [ON_B, LXC_ON_B] {
        let mut bench = bench(Rules::Replicated);
        bench.create(ON_A).expect("made");
        assert_eq!(bench.rename(ON_A, to), Ok(0));
        assert_eq!(bench.list_versions(), (3, Some(2)));
        let kind = if to == ON_B {
            "100 b qemu"
        } else {
            "100 b lxc"
        };
        assert_eq!(bench.guests(), [kind]);
    }
}

#[test]
fn the_list_follows_renames_of_files() {
    let mut bench = bench(Rules::Replicated);
    assert_eq!(bench.rename("f", ON_A), Ok(0));
    assert_eq!(bench.list_versions(), (1, Some(1)));
    bench.create("nodes/a/qemu-server/101.conf").expect("made");
    bench
        .rename("nodes/a/qemu-server/101.conf", ON_A)
        .expect("it lives at the target");
    assert_eq!(bench.guests(), ["100 a qemu"]);
    assert_eq!(bench.list_versions(), (4, Some(3)));
    bench
        .rename(ON_A, "nodes/b/qemu-server/300.conf")
        .expect("another id");
    assert_eq!(bench.guests(), ["300 b qemu"]);
    bench
        .rename("nodes/b/qemu-server/300.conf", "f")
        .expect("no config any more");
    assert_eq!(bench.guests(), [""; 0]);
    assert_eq!(bench.list_versions(), (7, None));
}

#[test]
fn renaming_directories_leaves_the_list_alone() {
    let mut bench = bench(Rules::Replicated);
    bench.create(ON_A).expect("made");
    bench.mkdir(ON_B).expect("a directory is no guest");
    bench.rename(ON_B, "nodes/b/lxc/100.conf").expect("renamed");
    assert_eq!(bench.guests(), ["100 a qemu"]);
    assert_eq!(bench.list_versions(), (1, Some(1)));
}

#[test]
fn removing_a_directory_like_a_config_frees_the_id_among_c_peers_only() {
    for (rules, guests, version, create) in [
        (Rules::Local, &["100 a qemu"][..], 1, Err(Exists)),
        (Rules::Replicated, &[][..], 2, Ok(0)),
    ] {
        let mut bench = bench(rules);
        bench.create(ON_A).expect("made");
        bench.mkdir(ON_B).expect("made");
        bench.delete(ON_B).expect("deleted");
        assert_eq!(bench.guests(), guests, "{rules:?}");
        assert_eq!(bench.list_versions().0, version, "{rules:?}");
        assert_eq!(bench.create(ON_B), create, "{rules:?}");
    }
}

fn scan(entries: Vec<pmxcfs_memdb::Entry>) -> Result<Tree, Finding> {
    let mut all = vec![
        directory(2, 0, "nodes"),
        directory(3, 2, "a"),
        directory(4, 2, "b"),
        directory(5, 2, "b_x"),
        directory(6, 3, "qemu-server"),
        directory(7, 4, "lxc"),
        directory(8, 5, "lxc"),
    ];
    all.extend(entries);
    let root = RootState {
        version: 100,
        ..RootState::default()
    };
    Tree::from_entries(root, all, Rules::Local, 0)
}

#[test]
fn a_scan_enters_the_configs_of_valid_nodes() {
    let tree = scan(vec![
        file(10, 6, "100.conf", ""),
        file(11, 6, "0100.conf", ""),
        directory(12, 6, "101.conf"),
        file(13, 7, "200.conf", ""),
        file(14, 8, "100.conf", ""),
        directory(15, 6, "sub"),
        file(16, 15, "300.conf", ""),
    ])
    .expect("a tree");
    let bench = Bench::with(tree);
    assert_eq!(bench.guests(), ["100 a qemu", "200 b lxc"]);
    assert_eq!(bench.list_versions(), (1, Some(1)));
    assert_eq!(bench.tree.warnings(), []);
}

#[test]
fn a_scan_names_both_configs_of_a_duplicate_id() {
    let error = scan(vec![
        file(10, 6, "100.conf", ""),
        file(11, 7, "100.conf", ""),
    ])
    .expect_err("a duplicate");
    assert_eq!(
        error.problem,
        Problem::DuplicateGuest {
            vmid: Vmid(100),
            path: bytes("nodes/b/lxc/100.conf"),
            other: 10,
            other_path: bytes("nodes/a/qemu-server/100.conf"),
        }
    );
    let text = error.to_string();
    for part in [
        "100",
        "nodes/a/qemu-server/100.conf",
        "nodes/b/lxc/100.conf",
        "inode 11",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_file_in_the_place_of_a_guest_directory_is_a_warning() {
    let tree = scan(vec![file(10, 3, "lxc", ""), file(11, 6, "100.conf", "")]).expect("a tree");
    let [warning] = tree.warnings() else {
        panic!("{:?}", tree.warnings());
    };
    assert_eq!(warning.inode, 10);
    assert!(warning.to_string().contains("nodes/a/lxc"), "{warning}");
    assert_eq!(Bench::with(tree).guests(), ["100 a qemu"]);
}

#[test]
fn without_nodes_there_is_no_scan() {
    for entries in [vec![], vec![file(2, 0, "nodes", "")]] {
        let tree = Tree::from_entries(RootState::default(), entries, Rules::Local, 0);
        assert_eq!(tree.expect("a tree").guests().version, 0);
    }
}
