//! Rows of all kinds of garbage: a repair loses no content, leaves nothing that a start refuses, and finds nothing to do
//! the second time.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::super::{Access, create, examine};
use super::{Repaired, repair};
use crate::{EntryKind, Finding, RootState, Rules, Tree};

const TABLE: &str = "CREATE TABLE tree (inode INTEGER PRIMARY KEY NOT NULL, parent INTEGER, version INTEGER, \
                     writer INTEGER, mtime INTEGER, type INTEGER, name TEXT, data BLOB)";

/// Columns of a row behind its inode.
#[derive(Debug, Clone)]
struct Columns {
    parent: Value,
    version: Value,
    kind: Value,
    name: Value,
    data: Value,
}

fn number(range: std::ops::Range<i64>) -> impl Strategy<Value = Value> {
    prop_oneof![
        20 => range.prop_map(Value::Integer),
        1 => Just(Value::Text("zwei".to_owned())),
        1 => select(vec![i64::MAX, i64::MAX - 1, i64::MIN, -1]).prop_map(Value::Integer),
    ]
}

fn name() -> impl Strategy<Value = Value> {
    let names: Vec<&[u8]> = vec![
        b"a",
        b"b",
        b"priv",
        b"nodes",
        b"n",
        b"lxc",
        b"qemu-server",
        b"100.conf",
        b"a/b",
        b"/",
        b".",
        b"..",
        b"",
        b"a\0b",
        b"\0",
        b"\xff",
        b"__version__",
        b"recovered-3-a",
    ];
    prop_oneof![
        20 => select(names).prop_map(|name| Value::Blob(name.to_vec())),
        1 => Just(Value::Null),
    ]
}

prop_compose! {
    fn columns()(
        parent in number(0..12), version in number(0..20), name in name(),
        kind in prop_oneof![number(4..5), number(8..9), number(0..300)],
        size in prop_oneof![Just(0_usize), 1..9_usize],
    ) -> Columns {
        Columns { parent, version, kind, name, data: Value::Blob(vec![b'd'; size]) }
    }
}

fn rows() -> impl Strategy<Value = BTreeMap<i64, Columns>> {
    let inode = prop_oneof![30 => 0..12_i64, 1 => select(vec![i64::MAX, -3])];
    vec((inode, columns()), 0..14).prop_map(|rows| rows.into_iter().collect())
}

/// In memory where that is possible: syncs cost time, and nothing here depends on them.
fn place() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_missing| tempfile::tempdir())
        .unwrap()
}

fn write(database: &Path, rows: &BTreeMap<i64, Columns>) {
    let connection = Connection::open(database).unwrap();
    connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
    connection.execute_batch(TABLE).unwrap();
    for (inode, row) in rows {
        // Each content is told apart by where it comes from.
        let data = match &row.data {
            Value::Blob(data) if !data.is_empty() => {
                Value::Blob([data.clone(), inode.to_string().into_bytes()].concat())
            }
            _ => Value::Null,
        };
        connection
            .execute(
                "INSERT INTO tree VALUES (?1, ?2, ?3, 0, 0, ?4, CAST(?5 AS TEXT), ?6)",
                (inode, &row.parent, &row.version, &row.kind, &row.name, data),
            )
            .unwrap();
    }
}

fn contents(database: &Path) -> Vec<Vec<u8>> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT data FROM tree WHERE length(data) > 0 ORDER BY data")
        .unwrap();
    let contents = statement.query_map([], |row| row.get(0)).unwrap();
    contents.map(Result::unwrap).collect()
}

fn put(database: &Path, repaired: &Repaired) {
    create(database, repaired.root, &repaired.entries).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn garbage_becomes_a_tree_without_loss(rows in rows()) {
        let directory = place();
        let database = directory.path().join("config.db");
        write(&database, &rows);
        // Content of the version row has no meaning to readers, but it is kept where it is a fault.
        let has_root_data = rows.get(&0).is_some_and(|row| matches!(&row.data, Value::Blob(data) if !data.is_empty()));
        let before = contents(&database);

        let done = repair(&database, None).unwrap();
        prop_assert_eq!(contents(&database), before.clone());
        put(&database, &done);
        if !done.repairs.is_empty() || !has_root_data {
            prop_assert_eq!(contents(&database), before.clone());
        }

        let after = examine(&database, Access::Idle, None).unwrap();
        prop_assert_eq!(&after.findings, &Vec::<Finding>::new());
        let tree = Tree::from_entries(after.root, after.entries.iter().cloned(), Rules::Local, 0).unwrap();
        for entry in tree.entries() {
            prop_assert!(tree.path_of(entry.inode).is_some(), "inode {}", entry.inode);
        }
        let files = tree.entries().filter(|entry| entry.kind == EntryKind::File && entry.size > 0).count();
        prop_assert!(files + usize::from(has_root_data) >= before.len(), "{files} of {}", before.len());
        prop_assert!(tree.entries().all(|entry| entry.version <= after.root.version || entry.version > i64::MAX as u64));

        let again = repair(&database, None).unwrap();
        prop_assert_eq!(&again.repairs, &Vec::new());
    }
}

#[test]
fn what_may_have_been_private_stays_private() {
    let directory = place();
    let database = directory.path().join("config.db");
    let connection = Connection::open(&database).unwrap();
    connection.execute_batch(TABLE).unwrap();
    // The row of the directory that held a key is lost; a file is called priv and was changed last of all.
    connection
        .execute_batch(
            "INSERT INTO tree VALUES (0, 0, 50, 2, 99, 8, '__version__', NULL), \
             (3, 2, 3, 0, 0, 8, 'shadow.cfg', 'secret'), (7, 0, 1000, 0, 0, 8, 'priv', 'x')",
        )
        .unwrap();
    drop(connection);
    put(&database, &repair(&database, None).unwrap());
    let after = examine(&database, Access::Idle, None).unwrap();
    assert_eq!(after.findings, []);
    assert_eq!(
        after.root,
        RootState {
            version: 1001,
            writer: 2,
            mtime: 99
        }
    );
    let tree = Tree::from_entries(after.root, after.entries, Rules::Local, 0).unwrap();
    for (path, content) in [
        ("priv/recovered-3-shadow.cfg", "secret"),
        ("priv/recovered-7-priv", "x"),
    ] {
        let entry = tree.lookup(path.as_bytes()).expect(path);
        assert_eq!(entry.data, content.as_bytes());
        assert!(tree.is_private(entry.inode));
    }
}
