//! Databases that the C daemon left, with the digests, the index and the guest list that its own functions computed.
//!
//! `PMXCFS_VECTORS` may name a directory of further recordings with the same layout.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use pmxcfs_memdb::{Entry, EntryKind, Index, RootState, Rules, Tree};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

fn vector_directory() -> PathBuf {
    let root = std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    root.join("db")
}

struct Recording {
    name: String,
    expected: Value,
    tree: Tree,
}

fn recordings() -> Vec<Recording> {
    let directory = vector_directory();
    let mut found = Vec::new();
    for file in fs::read_dir(&directory).expect("vectors are there") {
        let path = file.expect("vectors can be listed").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let text = fs::read(&path).expect("manifest can be read");
            let expected: Value = serde_json::from_slice(&text).expect("manifest is JSON");
            let database = directory.join(text_of(&expected["database"]));
            found.push(Recording {
                name: path.display().to_string(),
                tree: load(&database),
                expected,
            });
        }
    }
    assert!(
        !found.is_empty(),
        "no recordings in {}",
        directory.display()
    );
    found
}

/// Reads the rows as they are, without the store and its checks.
fn load(database: &Path) -> Tree {
    let uri = format!("file:{}?immutable=1", database.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).expect("database opens");
    let mut statement = connection
        .prepare("SELECT inode, parent, version, writer, mtime, type, name, data FROM tree")
        .expect("table is there");
    let mut rows = statement.query([]).expect("rows can be read");
    let (mut root, mut entries) = (None, Vec::new());
    while let Some(row) = rows.next().expect("row can be read") {
        let number = |column| row.get::<_, i64>(column).expect("a number").cast_unsigned();
        let short = |column| u32::try_from(number(column)).expect("32 bits");
        let name = row.get_ref(6).expect("a name").as_bytes().expect("text");
        let data = row
            .get_ref(7)
            .expect("data")
            .as_bytes_or_null()
            .expect("a blob");
        if number(0) == 0 {
            assert_eq!(name, b"__version__");
            root = Some(RootState {
                version: number(2),
                writer: short(3),
                mtime: short(4),
            });
            continue;
        }
        let data = Bytes::copy_from_slice(data.unwrap_or_default());
        entries.push(Entry {
            inode: number(0),
            parent: number(1),
            version: number(2),
            writer: short(3),
            mtime: short(4),
            size: u32::try_from(data.len()).expect("a small file"),
            kind: if number(5) == 4 {
                EntryKind::Directory
            } else {
                EntryKind::File
            },
            name: Bytes::copy_from_slice(name),
            data,
        });
    }
    let root = root.expect("there is a version row");
    Tree::from_entries(root, entries, Rules::Replicated, 0).expect("rows make a tree")
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_entry_has_the_fields_path_and_digests_of_the_c_daemon() {
    for Recording {
        name,
        expected,
        tree,
    } in recordings()
    {
        let rows = expected["entries"].as_array().expect("a list");
        assert_eq!(tree.entry_count(), rows.len(), "{name}");
        for row in rows {
            let inode = row["inode"].as_u64().expect("a number");
            let entry = tree.entry(inode).expect("the entry is there");
            let context = format!("{name}: inode {inode}");
            let numbers = [
                (entry.parent, "parent"),
                (entry.version, "version"),
                (entry.writer.into(), "writer"),
                (entry.mtime.into(), "mtime"),
                (entry.size.into(), "size"),
                (entry.kind as u64, "type"),
            ];
            for (value, field) in numbers {
                assert_eq!(Some(value), row[field].as_u64(), "{context}: {field}");
            }
            assert_eq!(entry.name, text_of(&row["name"]), "{context}");
            assert_eq!(hex(&entry.checksum()), row["csum"], "{context}");
            assert_eq!(hex(&entry.index_digest()), row["index_digest"], "{context}");

            let path = text_of(&row["path"]);
            assert_eq!(tree.path_of(inode).expect("a path"), path, "{context}");
            assert_eq!(tree.lookup(path.as_bytes()), Some(entry), "{context}");
            if let Some(data) = row["data_hex"].as_str() {
                assert_eq!(hex(&entry.content()), data, "{context}");
            }
        }
    }
}

#[test]
fn whole_trees_have_the_checksum_of_the_c_daemon() {
    for Recording {
        name,
        expected,
        tree,
    } in recordings()
    {
        let root = &expected["root"];
        assert_eq!(
            Some(tree.root().version),
            root["version"].as_u64(),
            "{name}"
        );
        assert_eq!(
            hex(&tree.snapshot().checksum()),
            expected["whole_checksum"],
            "{name}"
        );
    }
}

#[test]
fn indexes_are_byte_equal_to_those_of_the_c_daemon() {
    for Recording {
        name,
        expected,
        tree,
    } in recordings()
    {
        let index = tree.index();
        let encoded = index.bytes();
        assert_eq!(hex(encoded), expected["index_hex"], "{name}");
        assert_eq!(Index::decode(encoded).as_ref(), Ok(&index), "{name}");
    }
}

#[test]
fn guest_lists_are_those_of_the_c_daemon() {
    for Recording {
        name,
        expected,
        tree,
    } in recordings()
    {
        let text = text_of(&expected["guest_list_after_open"]);
        let list: Value = serde_json::from_str(text).expect("the list is JSON");
        let guests = tree.guests();
        assert_eq!(
            Some(guests.version.into()),
            list["version"].as_u64(),
            "{name}"
        );

        let none = serde_json::Map::new();
        let rows = list["ids"].as_object().unwrap_or(&none);
        let expected: BTreeMap<u32, (&str, &str)> = rows
            .iter()
            .map(|(id, row)| {
                let id = id.parse().expect("an id");
                (id, (text_of(&row["node"]), text_of(&row["type"])))
            })
            .collect();
        let found: BTreeMap<u32, (&str, &str)> = guests
            .guests
            .iter()
            .map(|(id, guest)| {
                let node = str::from_utf8(&guest.node).expect("a node name");
                (id.0, (node, guest.kind.name()))
            })
            .collect();
        assert_eq!(found, expected, "{name}");

        let mut versions: Vec<u64> = guests
            .guests
            .values()
            .map(|guest| guest.version.into())
            .collect();
        let mut recorded: Vec<u64> = rows
            .values()
            .filter_map(|row| row["version"].as_u64())
            .collect();
        versions.sort_unstable();
        recorded.sort_unstable();
        assert_eq!(
            versions, recorded,
            "{name}: in which order a scan counts is open"
        );
    }
}
