//! Lookup, paths, privacy and listings.

use std::sync::Arc;

use pmxcfs_api_types::path;
use pmxcfs_memdb::{EntryKind, ROOT_INODE, Rules};

use crate::harness::Bench;

#[test]
fn lookup_skips_empty_components_and_takes_the_others_literally() {
    let bench = Bench::of(Rules::Local, &["d", "d/x", "d/x/f!"]);
    for path in ["", "/", ".", "//"] {
        assert_eq!(bench.at(path).inode, ROOT_INODE, "{path:?}");
    }
    let inode = bench.inode("d/x/f");
    for path in ["/d/x/f", "d//x///f", "//d/x/f//"] {
        assert_eq!(bench.inode(path), inode, "{path:?}");
    }
    for path in ["d/./x", "d/../d", "..", "./d", "d/x/f/y", "D", "d/xx"] {
        assert!(!bench.exists(path), "{path:?}");
    }
    assert_eq!(
        bench
            .tree
            .child(bench.inode("d/x"), b"f")
            .map(|entry| entry.inode),
        Some(inode)
    );
    assert_eq!(bench.tree.child(inode, b"f"), None);
}

#[test]
fn a_leading_dot_names_the_root_only_as_the_directory_of_a_name() {
    let mut bench = Bench::new(Rules::Local);
    assert_eq!(bench.mkdir("./d"), Ok(0));
    assert!(bench.exists("d"));
    assert!(!bench.exists("./d"));
}

#[test]
fn paths_and_privacy_follow_an_entry() {
    let mut bench = Bench::of(
        Rules::Local,
        &[
            "priv",
            "priv/x!",
            "priv/d",
            "priv/d/e",
            "priv/d/e/f!",
            "privx",
            "privx/priv",
            "d",
            "d/priv",
            "nodes",
            "nodes/priv",
            "nodes/priv/x!",
            "nodes/n",
            "nodes/n/priv",
            "nodes/n/priv/key!",
            "nodes/n/other",
            "nodes/n/other/priv",
            "nodes/n/privx",
            "nodes/m",
            "nodes/m/priv!",
            "e",
        ],
    );
    let check_all = |bench: &Bench| {
        for entry in bench.tree.entries() {
            let place = bench.tree.path_of(entry.inode).expect("reachable");
            assert_eq!(bench.tree.lookup(&place), Some(entry));
            let private = path::is_private(&place);
            assert_eq!(bench.tree.is_private(entry.inode), private, "{place:?}");
        }
    };
    check_all(&bench);
    for (from, to) in [
        ("e", "priv/e"),
        ("priv/e", "nodes/k"),
        ("nodes/k", "e"),
        ("priv/x", "x"),
    ] {
        bench.rename(from, to).expect("renamed");
        if from != "priv/x" {
            bench.mkdir(&format!("{to}/priv")).expect("made");
            check_all(&bench);
            bench.delete(&format!("{to}/priv")).expect("deleted");
        }
        check_all(&bench);
    }
    assert_eq!(bench.tree.path_of(12345), None);
    assert!(bench.tree.is_private(12345));
}

#[test]
fn a_listing_is_built_once_until_the_directory_changes() {
    let mut bench = Bench::of(Rules::Local, &["d", "d/b", "d/a!"]);
    let inode = bench.inode("d");
    let listing = bench.tree.listing(inode).expect("a directory");
    let rows: Vec<_> = listing
        .iter()
        .map(|row| (row.inode, row.kind, &row.name[..]))
        .collect();
    assert_eq!(
        rows,
        [
            (bench.inode("d/b"), EntryKind::Directory, &b"b"[..]),
            (bench.inode("d/a"), EntryKind::File, &b"a"[..]),
        ]
    );
    bench.write("d/a", 0, b"x").expect("written");
    bench.mkdir("d/b/sub").expect("made");
    let again = bench.tree.listing(inode).expect("a directory");
    assert!(
        Arc::ptr_eq(&listing, &again),
        "its own children are the same"
    );

    for (change, names) in [
        (
            Bench::create as fn(&mut Bench, &str) -> _,
            vec!["a", "b", "c"],
        ),
        (Bench::delete, vec!["a", "b"]),
    ] {
        change(&mut bench, "d/c").expect("changed");
        assert_eq!(bench.names("d"), names);
    }
    bench.rename("d/a", "z").expect("renamed");
    assert_eq!(bench.names("d"), ["b"]);
    assert_eq!(bench.names(""), ["d", "z"]);
    bench.rename("z", "d/z").expect("renamed");
    assert_eq!(bench.names("d"), ["b", "z"]);
    assert_eq!(bench.names(""), ["d"]);
    assert_eq!(listing.len(), 2, "a reader keeps what it was given");
    assert_eq!(bench.tree.listing(bench.inode("d/z")), None, "a file");
    assert_eq!(bench.tree.listing(999), None);
}
