//! `diff`: two nodes' databases, and what would happen if they met.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use pmxcfs_memdb::store::create;
use pmxcfs_memdb::{Entry, EntryKind, RootState};

use crate::place::{Answer, Place, entry, recordings, tool};

fn diff(a: &Path, b: &Path) -> Answer {
    tool([OsStr::new("diff"), a.as_ref(), b.as_ref()])
}

fn databases(
    place: &Place,
    a: (RootState, &[Entry]),
    b: (RootState, &[Entry]),
) -> (std::path::PathBuf, std::path::PathBuf) {
    let paths = (place.path("a.db"), place.path("b.db"));
    create(&paths.0, a.0, a.1).unwrap();
    create(&paths.1, b.0, b.1).unwrap();
    paths
}

const fn root(version: u64, mtime: u32) -> RootState {
    RootState {
        version,
        writer: 1,
        mtime,
    }
}

#[test]
fn equal_databases_have_status_0_and_recorded_ones_differ() {
    let place = Place::new();
    let recordings = recordings();
    for (index, (database, _)) in recordings.iter().enumerate() {
        let copy = place.path(format!("{index}.db"));
        fs::copy(database, &copy).unwrap();
        diff(&copy, &copy)
            .expect(0)
            .says("sync: nothing to do, both are equal");
    }
    for index in 1..recordings.len() {
        let (a, b) = (place.path("0.db"), place.path(format!("{index}.db")));
        diff(&a, &b).expect(1).says("sync: ");
    }
    diff(&place.path("0.db"), &place.path("missing.db")).expect(2);
}

#[test]
fn every_kind_of_difference_is_told() {
    let common = [
        entry(2, 0, EntryKind::Directory, b"d", b""),
        entry(3, 0, EntryKind::File, b"same", b"x"),
    ];
    let a: Vec<Entry> = [
        &common[..],
        &[
            entry(4, 2, EntryKind::File, b"renamed", b"content"),
            entry(5, 0, EntryKind::File, b"changed", b"old"),
            entry(6, 0, EntryKind::File, b"mine\xff", b"1"),
            entry(7, 0, EntryKind::File, b"kind", b""),
        ],
    ]
    .concat();
    let mut changed = entry(5, 0, EntryKind::File, b"changed", b"newer");
    (changed.version, changed.writer, changed.mtime) = (9, 2, 1_700_000_060);
    let b: Vec<Entry> = [
        &common[..],
        &[
            entry(4, 0, EntryKind::File, b"other", b"content"),
            changed,
            entry(8, 2, EntryKind::File, b"theirs", b"22"),
            entry(7, 0, EntryKind::Directory, b"kind", b""),
        ],
    ]
    .concat();
    let place = Place::new();
    let (a, b) = databases(&place, (root(12, 5), &a), (root(9, 7), &b));
    let answer = diff(&a, &b).expect(1);
    for text in [
        "A: ",
        "version 12, writer 1",
        "version 9, writer 1",
        "moved    d/renamed in A is other in B (inode 4)",
        "differs  changed: version 5 | 9, writer 1 | 2, mtime 2023-11-14T22:13:20Z | 2023-11-14T22:14:20Z, size 3 | 5, \
         content cba06b5736faf67e | ",
        "only A   mine\\xff (file, inode 6, version 6, writer 1, 2023-11-14T22:13:20Z, 1 bytes, content 6b86b273ff34fce1)",
        "only B   d/theirs (file, inode 8",
        "differs  kind: type file | directory",
        "sync: A leads, its version is higher",
        "B takes over 4 inodes and loses 1 inode\n",
        "discarded of B: d/theirs (file",
        "replaced in B: changed version 9 by version 5, although it was changed later",
        "replaced in B: kind/ version 7 by version 7",
    ] {
        assert!(answer.out.contains(text), "{text}: {answer:#?}");
    }
    assert!(!answer.out.contains("same"), "{answer:#?}");

    // The other way round everything is the other way round.
    diff(&b, &a)
        .expect(1)
        .says("moved    other in A is d/renamed in B")
        .says("sync: B leads, its version is higher")
        .says("discarded of A: d/theirs");
}

#[test]
fn the_leader_is_the_one_that_a_cluster_would_choose() {
    let entries = [entry(2, 0, EntryKind::File, b"a", b"")];
    for (a, b, text) in [
        (
            root(3, 1),
            root(2, 9),
            "sync: A leads, its version is higher",
        ),
        (
            root(3, 1),
            root(3, 9),
            "sync: B leads, its last change is later at the same version",
        ),
        (
            RootState {
                writer: 2,
                ..root(3, 1)
            },
            root(3, 1),
            "the node with the lower id leads",
        ),
    ] {
        let place = Place::new();
        let (a, b) = databases(&place, (a, &entries), (b, &entries));
        diff(&a, &b).expect(1).says(text);
    }
}

#[test]
fn a_database_that_does_not_load_is_compared_as_far_as_it_goes() {
    let place = Place::new();
    let twice = [
        entry(2, 0, EntryKind::File, b"a", b""),
        entry(3, 0, EntryKind::File, b"a", b""),
    ];
    let (a, b) = databases(&place, (root(3, 1), &twice), (root(3, 1), &twice[..1]));
    diff(&a, &b)
        .expect(1)
        .says("A cannot take part, it does not load");
}
