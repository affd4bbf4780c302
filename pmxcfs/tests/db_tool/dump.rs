//! What `dump` shows.

use std::fs;

use pmxcfs_memdb::{EntryKind, RootState};
use serde_json::{Value, json};

use crate::place::{Place, VERSION_ROW, entry, recordings};

const ROOT: RootState = RootState {
    version: 40,
    writer: 3,
    mtime: 1_700_000_001,
};

#[test]
fn json_holds_everything_of_the_recorded_trees() {
    for (database, expected) in recordings() {
        let place = Place::new();
        fs::copy(&database, place.database()).unwrap();
        let dump = place.dump();
        for field in ["version", "writer", "mtime"] {
            assert_eq!(dump["root"][field], expected["root"][field]);
        }
        let mut shown: Vec<&Value> = dump["entries"].as_array().unwrap().iter().collect();
        shown.sort_by_key(|entry| entry["inode"].as_u64());
        let recorded: Vec<&Value> = expected["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["inode"] != 0)
            .collect();
        assert_eq!(shown.len(), recorded.len(), "{}", database.display());
        for (shown, recorded) in shown.into_iter().zip(recorded) {
            for field in ["inode", "parent", "version", "writer", "mtime", "name"] {
                assert_eq!(shown[field], recorded[field], "{field} of {recorded}");
            }
            let is_directory = recorded["type"] == 4;
            assert_eq!(shown["type"] == "directory", is_directory);
            if !is_directory {
                assert_eq!(shown["size"], recorded["size"]);
            }
            if let Some(hex) = recorded["data_hex"].as_str() {
                let content = match (&shown["content"], &shown["content_hex"]) {
                    (Value::String(text), _) => {
                        text.bytes().map(|byte| format!("{byte:02x}")).collect()
                    }
                    (_, Value::String(hex)) => hex.clone(),
                    _ => String::new(),
                };
                assert_eq!(content, hex);
            }
        }
    }
}

#[test]
fn names_and_contents_that_are_no_text_lose_nothing() {
    let entries = [
        entry(2, 0, EntryKind::Directory, b"d\xff", b""),
        entry(3, 2, EntryKind::File, b"a\\b\x1b[0m", b"one\n\x00two"),
        entry(4, 2, EntryKind::File, b"plain", b"\xfe\xff"),
    ];
    let place = Place::with_entries(ROOT, &entries);
    let dump = place.dump();
    let shown = dump["entries"].as_array().unwrap();
    assert_eq!(shown[0]["name_hex"], "64ff");
    assert_eq!(shown[1]["name"], "a\\b\u{1b}[0m");
    assert_eq!(shown[1]["path_hex"], "64ff2f615c621b5b306d");
    assert_eq!(shown[1]["content"], "one\n\u{0}two");
    assert_eq!(shown[2]["content_hex"], "feff");

    let text = place.tool("dump", &["--contents"]).expect(0).out;
    assert!(
        text.contains("  d\\xff/a\\\\b\\x1b[0m\n    | one\n    | \\x00two\\\n"),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "nothing that a terminal would act on"
    );
    assert!(
        text.starts_with("# version 40, writer 3, 2023-11-14T22:13:21Z\n"),
        "{text}"
    );
}

#[test]
fn a_part_of_the_tree_can_be_asked_for() {
    let entries = [
        entry(2, 0, EntryKind::Directory, b"a", b""),
        entry(3, 2, EntryKind::File, b"x", b"1"),
        entry(4, 0, EntryKind::File, b"ab", b"2"),
    ];
    let place = Place::with_entries(ROOT, &entries);
    let paths = |path: &str| -> Vec<Value> {
        let dump = place.tool("dump", &["--json", path]).expect(0);
        let dump: Value = serde_json::from_str(&dump.out).unwrap();
        let entries = dump["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["path"].clone()).collect()
    };
    assert_eq!(paths("a"), [json!("a"), json!("a/x")]);
    assert_eq!(paths("/a/x"), [json!("a/x")]);
    assert_eq!(paths("/").len(), 3);
    place
        .tool("dump", &["b"])
        .expect(2)
        .says("there is no 'b' in the tree");
}

#[test]
fn a_database_that_does_not_load_is_shown_with_a_warning() {
    let place = Place::with_rows(&[
        VERSION_ROW,
        "(2, 0, 2, 0, 0, 8, 'a', 'first')",
        "(3, 0, 3, 0, 0, 8, 'a', 'second')",
        "(4, 9, 4, 0, 0, 8, 'lost', 'third')",
        "(5, 6, 5, 0, 0, 4, 'round', NULL)",
        "(6, 5, 6, 0, 0, 4, 'about', NULL)",
        "(7, 0, 7, 0, 0, 8, 'x/y', NULL)",
    ]);
    let answer = place.tool("dump", &["--contents"]).expect(0);
    assert!(
        answer
            .notes
            .contains("2 faults that keep the daemon from starting"),
        "{answer:#?}"
    );
    for text in [
        "| first",
        "| second",
        "<unreachable, in inode 9>/lost\n    | third",
        "<unreachable, in inode 6>/round/",
        "<unreachable, in inode 0>/x\\x2fy",
    ] {
        assert!(answer.out.contains(text), "{text}: {answer:#?}");
    }
    assert_eq!(place.dump()["entries"][4]["path"], Value::Null);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let entries: Vec<_> = (2..4000)
        .map(|inode| {
            let name = format!("file-{inode}");
            entry(inode, 0, EntryKind::File, name.as_bytes(), b"content")
        })
        .collect();
    let root = RootState {
        version: 4000,
        ..ROOT
    };
    let place = Place::with_entries(root, &entries);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "\"$0\" dump --db \"$1\" | head -n 1"])
        .arg(crate::place::PROGRAM)
        .arg(place.database());
    let answer = crate::place::answer(&mut command).expect(0);
    assert_eq!(answer.notes, "");
    assert_eq!(answer.out.lines().count(), 1);
}
