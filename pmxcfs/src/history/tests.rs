//! The history of a tree without a mount.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_memdb::store::{Store, StoreConfig};
use pmxcfs_memdb::{Operation, RootState, Rules, Tree};
use rusqlite::Connection;

use super::*;

mod faults;
mod model;

/// Longer than anything takes on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

/// What the daemon would be started with.
pub(super) fn settings(directory: &Path, options: &[&str]) -> Settings {
    let line: Line = clap::Parser::try_parse_from(options).expect("valid options");
    Settings {
        file: directory.join("history.db"),
        ..line.settings
    }
}

/// A tree with its store and its history.
struct Bench {
    db: Arc<MemDb>,
    history: History,
}

impl Bench {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, &["pmxcfs"])
    }

    fn start_with(directory: &Path, options: &[&str]) -> Self {
        let database = directory.join("config.db");
        let config = StoreConfig::new(database, directory);
        let (store, loaded) = Store::open(config).expect("a database");
        let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Local, 0);
        let db = MemDb::new(tree.expect("a tree"), Instant::now());
        db.start_store(store).expect("a thread");
        let settings = settings(directory, options);
        let node_name = Box::new(|id| format!("node{id}"));
        let history = History::start(settings, &db, node_name).expect("a thread");
        Self { db, history }
    }

    fn apply(&self, operation: Operation) {
        self.db.apply_and_wait(&operation).expect("it is allowed");
    }

    fn write(&self, path: &'static str, data: impl Into<Bytes>) {
        let path = Bytes::from_static(path.as_bytes());
        let data = data.into();
        if self.db.read().lookup(&path).is_none() {
            self.apply(Operation::Create { path: path.clone() });
        }
        self.apply(Operation::Write {
            path,
            offset: 0,
            data,
            truncate: true,
        });
    }

    fn stop(self) {
        self.db.shutdown(LONG);
        self.history.stop(LONG);
    }
}

/// Operation, path, content before, content afterwards.
type Row = (String, String, Option<String>, Option<String>);

fn rows(directory: &Path) -> Vec<Row> {
    let file = Connection::open(directory.join("history.db")).expect("it opens");
    let select = "SELECT operation, path, b.data, a.data FROM record LEFT JOIN content AS b ON b.id = old_content \
                  LEFT JOIN content AS a ON a.id = record.content ORDER BY seq";
    let mut statement = file.prepare(select).expect("the tables are there");
    let text = |frame: Option<Vec<u8>>| {
        let data = frame.map(|frame| zstd::bulk::decompress(&frame, 1 << 20).expect("a frame"));
        data.map(|data| String::from_utf8(data).expect("text"))
    };
    let read = statement.query_map([], |row| {
        let path: Vec<u8> = row.get(1)?;
        let path = String::from_utf8(path).expect("text");
        Ok((row.get(0)?, path, text(row.get(2)?), text(row.get(3)?)))
    });
    read.expect("rows").map(|row| row.expect("a row")).collect()
}

fn row(operation: &str, path: &str, before: Option<&str>, after: Option<&str>) -> Row {
    let text = |text: &str| text.to_owned();
    (
        text(operation),
        text(path),
        before.map(text),
        after.map(text),
    )
}

fn path(path: &'static str) -> Bytes {
    Bytes::from_static(path.as_bytes())
}

#[test]
fn changes_are_recorded_with_what_was_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.apply(Operation::Mkdir { path: path("priv") });
    bench.write("a.cfg", "one");
    bench.write("a.cfg", "two");
    bench.write("priv/secret", "hidden");
    bench.apply(Operation::Rename {
        from: path("a.cfg"),
        to: path("b.cfg"),
    });
    bench.apply(Operation::Delete {
        path: path("b.cfg"),
    });
    bench.apply(Operation::Mkdir {
        path: path("priv/lock"),
    });
    bench.apply(Operation::Mkdir {
        path: path("priv/lock/x"),
    });
    bench.stop();
    let expected = [
        row("mkdir", "priv", None, None),
        row("create", "a.cfg", None, Some("two")),
        row("create", "priv/secret", None, None),
        row("rename", "b.cfg", None, Some("two")),
        row("remove", "b.cfg", Some("two"), None),
        row("mkdir", "priv/lock", None, None),
    ];
    assert_eq!(rows(directory.path()), expected);
}

#[test]
fn a_file_from_before_the_history_keeps_its_content_at_its_first_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start_with(directory.path(), &["pmxcfs"]);
    bench.write("a.cfg", "old");
    bench.write("b.cfg", "older");
    bench.stop();
    std::fs::remove_file(directory.path().join("history.db")).expect("it was made");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "new");
    bench.apply(Operation::Delete {
        path: path("b.cfg"),
    });
    bench.stop();
    let expected = [
        row("content", "a.cfg", Some("old"), Some("new")),
        row("remove", "b.cfg", Some("older"), None),
    ];
    assert_eq!(rows(directory.path()), expected);
}

#[test]
fn what_changed_while_no_history_was_kept_is_recorded_after_a_gap() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "one");
    bench.write("b.cfg", "two");
    bench.stop();
    let history = directory.path().join("history.db");
    let kept = std::fs::read(&history).expect("it is there");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "three");
    bench.apply(Operation::Delete {
        path: path("b.cfg"),
    });
    bench.stop();
    std::fs::write(&history, kept).expect("it can be written");
    Bench::start(directory.path()).stop();
    let expected = [
        row("create", "a.cfg", None, Some("one")),
        row("create", "b.cfg", None, Some("two")),
        row("gap", "", None, None),
        row("content", "a.cfg", Some("one"), Some("three")),
        row("remove", "b.cfg", Some("two"), None),
    ];
    assert_eq!(rows(directory.path()), expected);
    Bench::start(directory.path()).stop();
    assert_eq!(rows(directory.path()).len(), expected.len());
}

#[test]
fn a_synchronisation_is_one_record_for_each_entry_that_it_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "mine");
    bench.write("same.cfg", "same");
    let mut entries: Vec<_> = bench.db.read().entries().skip(1).cloned().collect();
    entries[0].data = Bytes::from_static(b"theirs");
    entries[0].version += 100;
    let inodes = entries.iter().map(|entry| entry.inode).collect();
    let root = RootState {
        version: 200,
        writer: 3,
        mtime: 5,
    };
    let tree = Tree::from_entries(root, entries, Rules::Local, 0).expect("a tree");
    bench
        .db
        .replace_tree(tree, &inodes, 3)
        .expect("it is stored");
    bench.stop();
    let expected = [
        row("create", "a.cfg", None, Some("mine")),
        row("create", "same.cfg", None, Some("same")),
        row("content", "a.cfg", Some("mine"), Some("theirs")),
    ];
    assert_eq!(rows(directory.path()), expected);
}

#[test]
fn a_broken_file_is_put_aside_and_the_tree_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = directory.path().join("history.db");
    std::fs::write(&history, [b'x'; 9000]).expect("it can be written");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "one");
    bench.stop();
    let names: Vec<String> = rows(directory.path())
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert!(names.contains(&"gap".to_owned()), "{names:?}");
    assert_eq!(
        std::fs::read(history.with_extension("db.broken")).expect("kept"),
        [b'x'; 9000]
    );
}

#[test]
fn a_file_that_a_kill_left_without_tables_becomes_the_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("history.db");
    let begun = Connection::open(&file).expect("a database");
    begun
        .execute_batch("PRAGMA auto_vacuum = INCREMENTAL")
        .expect("it is set");
    begun
        .pragma_update_and_check(None, "journal_mode", "WAL", |_row| Ok(()))
        .expect("it is set");
    drop(begun);
    assert!(file.metadata().expect("it is there").len() > 0);
    let bench = Bench::start(directory.path());
    bench.history.flush(LONG);
    bench.write("a.cfg", "one");
    bench.stop();
    assert_eq!(
        rows(directory.path()),
        [row("create", "a.cfg", None, Some("one"))]
    );
    assert!(!file.with_extension("db.broken").exists());
}

#[test]
fn a_history_that_has_its_size_loses_its_oldest_records_and_shrinks() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start_with(directory.path(), &["pmxcfs", "--history-size", "1"]);
    bench.apply(Operation::Create {
        path: Bytes::from_static(b"f"),
    });
    let mut random = 1_u64;
    for _ in 0..12 {
        // Nothing that compresses.
        let bytes = std::iter::repeat_with(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 56) as u8
        });
        bench.apply(Operation::Write {
            path: Bytes::from_static(b"f"),
            offset: 0,
            data: bytes.take(500_000).collect(),
            truncate: true,
        });
        bench.history.flush(LONG);
    }
    let file = directory.path().join("history.db");
    let connection = schema::open_read_only(&file).expect("a history");
    let number = |query: &str| -> i64 {
        let row = connection.query_row(query, [], |row| row.get(0));
        row.expect("a number")
    };
    assert!(number("SELECT min(seq) FROM record") > 1, "the oldest go");
    let pages = number("PRAGMA page_count") * number("PRAGMA page_size");
    assert!(pages < 6 << 20, "{pages} bytes are left of 6 MB");
}

#[test]
fn a_left_out_file_has_no_content_in_the_past() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.write("manager_status", "x");
    bench.history.flush(LONG);
    let version = bench.db.read().root().version;
    bench.history.stop(LONG);
    let options = ["pmxcfs", "--history-left-out", "manager_status"];
    drop(bench);
    let bench = Bench::start_with(directory.path(), &options);
    bench.write("manager_status", "later");
    bench.history.flush(LONG);
    let connection = schema::open_read_only(&directory.path().join("history.db"));
    let present = |path: &[u8]| bench.db.read().lookup(path).cloned();
    let reader = query::Reader {
        connection: connection.expect("a history"),
        present: &present,
    };
    let then = reader.state(b"manager_status", Some(query::Moment::Version(version)));
    assert_eq!(then.expect("an answer"), query::State::Unkept);
    let now = reader.state(b"manager_status", None).expect("an answer");
    assert_eq!(now, query::State::File(b"later".to_vec()));
}
