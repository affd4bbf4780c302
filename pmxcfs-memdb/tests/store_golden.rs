//! Databases that the C daemon left: what is loaded from them, and that they stay what they are.
//!
//! `PMXCFS_VECTORS` may name a directory of further recordings with the same layout.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::fs;
use std::path::{Path, PathBuf};

use pmxcfs_memdb::store::{Access, ShutdownOutcome, Store, examine};
use rusqlite::Connection;
use serde_json::Value;
use store_support::{Fixture, PATIENCE, Place};

fn recordings() -> Vec<(PathBuf, Value)> {
    let root = std::env::var_os("PMXCFS_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let directory = root.join("db");
    let mut found = Vec::new();
    for file in fs::read_dir(&directory).expect("vectors are there") {
        let path = file.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let expected: Value = serde_json::from_slice(&fs::read(&path).unwrap()).expect("JSON");
            found.push((
                directory.join(expected["database"].as_str().expect("a name")),
                expected,
            ));
        }
    }
    assert!(
        !found.is_empty(),
        "no recordings in {}",
        directory.display()
    );
    found
}

fn copy(database: &Path) -> Place {
    let place = Place::new();
    fs::copy(database, place.database()).unwrap();
    place
}

fn schema(database: &Path) -> String {
    let connection = Connection::open(database).unwrap();
    connection
        .query_row(
            "SELECT group_concat(sql, ';') FROM sqlite_master",
            [],
            |row| row.get(0),
        )
        .unwrap()
}

#[test]
fn every_recorded_database_is_loaded_as_the_c_daemon_has_it() {
    for (database, expected) in recordings() {
        let name = database.display().to_string();
        let place = copy(&database);
        let (_store, loaded) = Store::open(place.config()).expect(&name);
        assert_eq!(loaded.warnings, [], "{name}");
        assert!(!loaded.created, "{name}");
        let root = &expected["root"];
        assert_eq!(
            root["version"].as_u64(),
            Some(loaded.root.version),
            "{name}"
        );
        assert_eq!(
            root["writer"].as_u64(),
            Some(loaded.root.writer.into()),
            "{name}"
        );
        assert_eq!(
            root["mtime"].as_u64(),
            Some(loaded.root.mtime.into()),
            "{name}"
        );

        let entries: Vec<&Value> = expected["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["inode"] != 0)
            .collect();
        assert_eq!(entries.len(), loaded.entries.len(), "{name}");
        for (expected, entry) in entries.iter().zip(&loaded.entries) {
            let number = |field: &str| expected[field].as_u64().unwrap();
            assert_eq!(number("inode"), entry.inode, "{name}");
            assert_eq!(number("parent"), entry.parent, "{name}");
            assert_eq!(number("version"), entry.version, "{name}");
            assert_eq!(number("writer"), u64::from(entry.writer), "{name}");
            assert_eq!(number("mtime"), u64::from(entry.mtime), "{name}");
            assert_eq!(number("size"), u64::from(entry.size), "{name}");
            assert_eq!(number("type"), u64::from(entry.kind as u8), "{name}");
            assert_eq!(
                expected["name"].as_str().unwrap().as_bytes(),
                entry.name,
                "{name}"
            );
            if let Some(hex) = expected["data_hex"].as_str() {
                let data: String = entry
                    .data
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                assert_eq!(hex, data, "{name}");
            }
        }
    }
}

#[test]
fn a_new_database_has_the_c_daemons_table() {
    let (database, _) = recordings().remove(0);
    let recorded = copy(&database);
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(schema(&place.database()), schema(&recorded.database()));
    let header = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        // Page size, format versions, reserved space; encoding; user version; application id.
        (
            bytes[..24].to_vec(),
            bytes[56..60].to_vec(),
            bytes[60..64].to_vec(),
            bytes[68..72].to_vec(),
        )
    };
    assert_eq!(header(&place.database()), header(&recorded.database()));
}

#[test]
fn a_database_that_was_only_opened_keeps_its_rows() {
    for (database, _) in recordings() {
        let place = copy(&database);
        let rows = |path: &Path| -> Vec<String> {
            let connection = Connection::open(path).unwrap();
            let mut statement = connection
                .prepare("SELECT quote(inode)||quote(parent)||quote(version)||quote(writer)||quote(mtime)||quote(type)\
                          ||quote(name)||quote(data) FROM tree")
                .unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let before = rows(&place.database());
        let fixture = Fixture::open(place.config());
        assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
        assert_eq!(rows(&place.database()), before, "{}", database.display());
    }
}

#[test]
fn rows_are_written_as_the_c_daemon_writes_them() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let file = fixture.create("file");
    fixture.create("empty");
    fixture.write(file, 0, b"data");
    let (_, directory) =
        fixture.record(|state| state.create(b"dir\xff", pmxcfs_memdb::EntryKind::Directory));
    fixture.wait(directory).unwrap();
    fixture.sync().unwrap();
    // Another program can read while the daemon runs.
    let connection = Connection::open(place.database()).unwrap();
    let mut statement = connection
        .prepare("SELECT inode||'|'||parent||'|'||version||'|'||writer||'|'||type||'|'||typeof(name)||'|'||\
                  hex(name)||'|'||quote(data) FROM tree")
        .unwrap();
    let rows: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        rows,
        [
            "0|0|5|7|8|text|5F5F76657273696F6E5F5F|NULL",
            "2|0|4|7|8|text|66696C65|X'64617461'",
            "3|0|3|7|8|text|656D707479|NULL",
            "5|0|5|7|4|text|646972FF|NULL",
        ]
    );
    drop(statement);
    drop(connection);
    fixture.store.shutdown(PATIENCE);
    let examined = examine(&place.database(), Access::Live, None).unwrap();
    assert!(examined.findings.is_empty());
}
