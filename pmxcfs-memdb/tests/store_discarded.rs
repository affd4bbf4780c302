//! What a sync took away is kept for the operator: readable, for root only, inside of its directory whatever the names are,
//! and not more of it than the limits say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pmxcfs_memdb::store::{Discarded, Saved, save_discarded};
use pmxcfs_memdb::{Entry, EntryKind};
use proptest::prelude::*;
use tempfile::TempDir;

const NOW: u32 = 1_795_409_368;

fn entry(inode: u64, parent: u64, kind: EntryKind, name: &[u8], data: &[u8]) -> Entry {
    Entry {
        inode,
        parent,
        version: inode + 5,
        writer: 3,
        mtime: 1_700_000_000,
        size: u32::try_from(data.len()).unwrap(),
        kind,
        name: Bytes::copy_from_slice(name),
        data: Bytes::copy_from_slice(data),
    }
}

fn file(inode: u64, path: impl AsRef<[u8]>, data: &[u8]) -> Discarded {
    Discarded {
        path: Bytes::copy_from_slice(path.as_ref()),
        entry: entry(inode, 0, EntryKind::File, b"name", data),
    }
}

fn directory(inode: u64, path: &str) -> Discarded {
    Discarded {
        path: Bytes::copy_from_slice(path.as_bytes()),
        entry: entry(inode, 0, EntryKind::Directory, b"name", b""),
    }
}

/// A directory that is not there yet, in one that is.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("discarded")
    }

    fn save(&self, entries: &[Discarded], now_secs: u32) -> Saved {
        let saved = save_discarded(&self.directory(), entries, now_secs);
        saved.unwrap().unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(&self.directory())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Contents of all files below a directory, by path. No link is followed and none is there.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                assert_eq!(mode, 0o700, "{path:?}");
                waiting.push(path);
            } else {
                assert!(metadata.is_file(), "{path:?}");
                assert_eq!(mode, 0o600, "{path:?}");
                let inside = path.strip_prefix(directory).unwrap();
                found.insert(
                    inside.to_str().unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

#[test]
fn files_are_found_under_their_paths_and_in_the_index() {
    let place = Place::new();
    let entries = [
        directory(10, "nodes/n1/empty"),
        file(11, "nodes/n1/qemu-server/100.conf", b"cores: 4\n"),
        file(12, "priv/shadow.cfg", b"secret"),
        file(13, ".hidden", b""),
    ];
    let saved = place.save(&entries, NOW);
    assert_eq!(saved.directory, place.directory().join("20261123-044928Z"));
    assert_eq!((saved.kept_count, saved.left_out_count), (4, 0));
    let found = contents(&saved.directory.join("files"));
    let expected = [
        (".hidden", &b""[..]),
        ("nodes/n1/qemu-server/100.conf", b"cores: 4\n"),
        ("priv/shadow.cfg", b"secret"),
    ];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.to_vec()));
    assert_eq!(found, expected.into());
    assert!(saved.directory.join("files/nodes/n1/empty").is_dir());
    let config = saved.directory.join("files/nodes/n1/qemu-server/100.conf");
    assert_eq!(fs::metadata(config).unwrap().mtime(), 1_700_000_000);
    let index = fs::read_to_string(saved.directory.join("INDEX")).unwrap();
    let lines: Vec<&str> = index
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(
        lines,
        [
            "10 15 3 1700000000 0 directory nodes/n1/empty -> files/nodes/n1/empty",
            "11 16 3 1700000000 9 file nodes/n1/qemu-server/100.conf -> files/nodes/n1/qemu-server/100.conf",
            "12 17 3 1700000000 6 file priv/shadow.cfg -> files/priv/shadow.cfg",
            "13 18 3 1700000000 0 file .hidden -> files/.hidden",
        ]
    );
}

#[test]
fn nothing_discarded_makes_no_directory() {
    let place = Place::new();
    assert_eq!(save_discarded(&place.directory(), &[], NOW).unwrap(), None);
    assert!(!place.directory().exists());
}

#[test]
fn hostile_names_stay_inside() {
    let place = Place::new();
    let long = "n".repeat(1000);
    let deep = "d/".repeat(3000) + "f";
    let table = [
        (b"../../outside".to_vec(), "%2E%2E/%2E%2E/outside"),
        (b"/etc/passwd".to_vec(), "etc/passwd"),
        (b"a/./..".to_vec(), "a/%2E/%2E%2E"),
        (b"..a".to_vec(), "..a"),
        (b"new\nline\x1b[31m".to_vec(), "new%0Aline%1B%5B31m"),
        (b"\xff\xfe".to_vec(), "%FF%FE"),
        (b"%2E".to_vec(), "%252E"),
        (b"nul\0byte".to_vec(), "nul%00byte"),
        (b"".to_vec(), "%~107"),
        (deep.into_bytes(), "%~108"),
        (long.clone().into_bytes(), "(long)"),
    ];
    let entries: Vec<Discarded> = (100..)
        .zip(&table)
        .map(|(inode, (path, _))| file(inode, path, path))
        .collect();
    // Inodes in the table are those of its rows.
    assert_eq!(entries[8].entry.inode, 108);
    let saved = place.save(&entries, NOW);
    let found = contents(&saved.directory.join("files"));
    assert_eq!(found.len(), table.len());
    for (inode, (path, expected)) in (100..).zip(&table) {
        let expected = match *expected {
            "(long)" => format!(
                "{}%~{:08x}",
                "n".repeat(200),
                crc32fast::hash(long.as_bytes())
            ),
            numbered if numbered.starts_with("%~") => format!("%~{inode}"),
            other => other.to_owned(),
        };
        assert_eq!(found.get(&expected), Some(path), "{expected}");
    }
    assert_eq!(names(place.0.path()), ["discarded"]);
    let index = fs::read_to_string(saved.directory.join("INDEX")).unwrap();
    assert_eq!(index.lines().count(), table.len() + 2, "one line each");
    assert!(index.is_ascii() && !index.contains('\x1b'));
}

#[test]
fn entries_of_one_place_are_told_apart() {
    let place = Place::new();
    let entries = [
        file(20, "a", b"first"),
        file(21, "a", b"second"),
        file(22, "a/b", b"below"),
        directory(23, "c"),
        file(24, "c", b"in the place of a directory"),
    ];
    let saved = place.save(&entries, NOW);
    let found = contents(&saved.directory.join("files"));
    let expected = [
        ("a%~20", &b"first"[..]),
        ("a%~21", b"second"),
        ("a/b", b"below"),
        ("c%~24", b"in the place of a directory"),
    ];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.to_vec()));
    assert_eq!(found, expected.into());
}

#[test]
fn a_hole_is_kept_as_what_it_reads_as() {
    let place = Place::new();
    let mut hole = file(5, "hole", b"");
    hole.entry.size = 7;
    let saved = place.save(&[hole], NOW);
    let found = fs::read(saved.directory.join("files/hole")).unwrap();
    assert_eq!(found, [0; 7]);
}

#[test]
fn the_newest_saves_stay_and_nothing_else_is_touched() {
    let place = Place::new();
    fs::create_dir(place.directory()).unwrap();
    fs::write(place.directory().join("notes"), "of the operator").unwrap();
    fs::create_dir(place.directory().join("20200101-000000Z-mine")).unwrap();
    // Of a process that died, and one that is only called alike.
    fs::create_dir_all(place.directory().join(".partial-20200101-000000Z/files")).unwrap();
    fs::create_dir(place.directory().join(".partial-mine")).unwrap();
    for round in 0..12 {
        let text = round.to_string();
        // Two saves in one second now and then.
        place.save(&[file(7, "f", text.as_bytes())], NOW + round / 2 * 2);
    }
    let expected = [
        ".partial-mine",
        "20200101-000000Z-mine",
        "20261123-044932Z",
        "20261123-044932Z-001",
        "20261123-044934Z",
        "20261123-044934Z-001",
        "20261123-044936Z",
        "20261123-044936Z-001",
        "20261123-044938Z",
        "20261123-044938Z-001",
        "notes",
    ];
    assert_eq!(place.names(), expected);
    let newest = place.directory().join("20261123-044938Z-001/files/f");
    assert_eq!(fs::read(newest).unwrap(), b"11");
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new();
    let large = vec![7; 1 << 20];
    let mut entries: Vec<Discarded> = (100..140)
        .map(|inode| file(inode, format!("f{inode}"), &large))
        .collect();
    entries.push(file(140, "small", b""));
    entries.push(directory(141, "d"));
    let saved = place.save(&entries, NOW);
    assert_eq!((saved.kept_count, saved.left_out_count), (34, 8));
    assert_eq!(contents(&saved.directory.join("files")).len(), 33);
    let index = fs::read_to_string(saved.directory.join("INDEX")).unwrap();
    let left_out = index
        .lines()
        .filter(|line| line.ends_with("-> not kept, there is too much"));
    assert_eq!(left_out.count(), 8);
}

#[test]
fn a_failure_is_told_and_leaves_nothing() {
    let place = Place::new();
    fs::write(place.directory(), "in the way").unwrap();
    let error = save_discarded(&place.directory(), &[file(1, "a", b"x")], NOW).unwrap_err();
    assert!(error.to_string().contains("discarded"), "{error}");

    // The same inode twice cannot be kept: two files of one name.
    let place = Place::new();
    let twice = [file(1, "a", b"x"), file(1, "a", b"y"), file(1, "a", b"z")];
    save_discarded(&place.directory(), &twice, NOW).unwrap_err();
    assert_eq!(place.names(), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_names_are_kept_inside_and_apart(
        paths in prop::collection::vec(
            prop::collection::vec(prop::sample::select(&b"ab./.%~\0\n\xff"[..]), 0..12), 1..12,
        ),
        directories in any::<u16>(),
    ) {
        let place = Place::new();
        let entries: Vec<Discarded> = (0u64..)
            .zip(&paths)
            .map(|(number, path)| {
                let mut discarded = file(number + 1, path, &number.to_le_bytes());
                if directories & (1 << number) != 0 {
                    discarded.entry = entry(number + 1, 0, EntryKind::Directory, b"", b"");
                }
                discarded
            })
            .collect();
        let saved = place.save(&entries, NOW);
        let found = contents(&saved.directory.join("files"));
        let mut kept: Vec<Vec<u8>> = found.into_values().collect();
        kept.sort();
        let files = entries.iter().filter(|discarded| !discarded.entry.is_directory());
        let mut expected: Vec<Vec<u8>> = files.map(|file| file.entry.data.to_vec()).collect();
        expected.sort();
        prop_assert_eq!(kept, expected);
        prop_assert_eq!(names(place.0.path()), ["discarded"]);
    }
}
