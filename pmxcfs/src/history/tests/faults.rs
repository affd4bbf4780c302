//! Deaths, disks, other processes, other versions: the tree goes on, and the history with it.

use std::fs;
use std::thread;

use super::model::{Model, model};
use super::*;
use crate::history::query::{Moment, Reader, State};
use crate::history::schema::open_read_only;

const PAGE_SIZE: usize = 4096;
/// What precedes each page in SQLite's log, and what precedes all of them.
const FRAME_HEADER_SIZE: usize = 24;
const LOG_HEADER_SIZE: usize = 32;

/// The file and its log, as they are on the disk.
#[derive(Clone)]
struct Image {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    fn of(directory: &Path) -> Self {
        let read = |name| fs::read(directory.join(name)).unwrap_or_default();
        Self {
            file: read("history.db"),
            log: read("history.db-wal"),
        }
    }

    fn put(&self, directory: &Path) {
        fs::write(directory.join("history.db"), &self.file).expect("it can be written");
        fs::write(directory.join("history.db-wal"), &self.log).expect("it can be written");
    }

    /// What was on the disk between two images: SQLite appends pages to its log, moves them into the file when there are many,
    /// and begins the log anew.
    fn until(&self, after: &Self) -> Vec<Self> {
        let is_same_log = self.log.get(..LOG_HEADER_SIZE) == after.log.get(..LOG_HEADER_SIZE);
        let moved = if is_same_log { &after.log } else { &self.log };
        let mut images = Vec::new();
        if is_same_log {
            images.extend(written(&self.log, &after.log).map(|log| Self {
                log,
                ..self.clone()
            }));
        }
        images.extend(written(&self.file, &after.file).map(|file| Self {
            file,
            log: moved.clone(),
        }));
        if !is_same_log {
            images.extend(written(&self.log, &after.log).map(|log| Self {
                log,
                ..after.clone()
            }));
        }
        images
    }
}

/// A file during its change from the first content to the second, from the front to the back: after each page, of many pages
/// after some, and in the middle of one.
fn written<'a>(before: &'a [u8], after: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let same = before
        .iter()
        .zip(after)
        .take_while(|(one, other)| one == other);
    let same = same.count();
    let page = PAGE_SIZE + FRAME_HEADER_SIZE;
    let step = page * (1 + after.len().saturating_sub(same) / (12 * page));
    let ends = (same..after.len())
        .step_by(step)
        .chain([same + step / 2, after.len()]);
    ends.map(move |end| {
        let end = end.min(after.len());
        let rest = before.get(end..).unwrap_or_default();
        [&after[..end], rest].concat()
    })
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut random = seed;
    let bytes = std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 56) as u8
    });
    bytes.take(length).collect()
}

/// Whether the history has the tree of each version up to its gap, or says that it does not know.
fn assert_agrees(bench: &Bench, file: &Path, known: &BTreeMap<u64, Model>) {
    let present = |path: &[u8]| bench.db.read().lookup(path).cloned();
    let reader = Reader {
        connection: open_read_only(file).expect("a history"),
        present: &present,
    };
    let select = "SELECT coalesce(max(version), 0) FROM record \
                  WHERE seq < coalesce((SELECT min(seq) FROM record WHERE operation = 'gap'), 1 << 40)";
    let last = reader.connection.query_row(select, [], |row| row.get(0));
    let last = i64::cast_unsigned(last.expect("a version"));
    for (version, model) in known.range(..=last) {
        for path in known.values().flat_map(Model::keys) {
            // A history that has begun anew does not know this version.
            let Ok(state) = reader.state(path, Some(Moment::Version(*version))) else {
                continue;
            };
            let expected = model.get(path).unwrap_or(&State::Absent);
            let is_unknown = state == State::Unkept && *expected != State::Absent;
            let path = path.escape_ascii();
            assert!(is_unknown || state == *expected, "{path} at {version}");
        }
    }
}

#[test]
fn a_death_at_any_write_leaves_a_history_that_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut images = Vec::new();
    let mut known = BTreeMap::new();
    let bench = Bench::start(directory.path());
    let mut before = Image {
        file: Vec::new(),
        log: Vec::new(),
    };
    bench.history.flush(LONG);
    for round in 0..12 {
        let after = Image::of(directory.path());
        images.extend(before.until(&after));
        before = after;
        bench.write(
            "a.cfg",
            noise(round, if round < 4 { 400_000 } else { 2_000 }),
        );
        let rename = Operation::Rename {
            from: path("a.cfg"),
            to: path("b.cfg"),
        };
        match round % 3 {
            0 => bench.apply(rename),
            1 => bench.apply(Operation::Delete {
                path: path("b.cfg"),
            }),
            _ => bench.write("c.cfg", noise(round, 10)),
        }
        bench.history.flush(LONG);
        let tree = bench.db.read();
        known.insert(tree.root().version, model(&tree));
    }
    bench.stop();
    let moved = images
        .iter()
        .filter(|image| image.file != before.file)
        .count();
    assert!(moved > 0 && images.len() > 100, "{} images", images.len());
    let database = fs::read(directory.path().join("config.db")).expect("a database");
    let parts = images.chunks(images.len().div_ceil(4));
    let (database, known) = (&database, &known);
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || {
                for image in part {
                    let directory = tempfile::tempdir_in("/dev/shm").expect("memory");
                    image.put(directory.path());
                    fs::write(directory.path().join("config.db"), database).expect("a disk");
                    let bench = Bench::start(directory.path());
                    bench.history.flush(LONG);
                    let file = directory.path().join("history.db");
                    assert_agrees(&bench, &file, known);
                    bench.write("after.cfg", "x");
                    bench.stop();
                    let last = rows_without_content(directory.path()).pop();
                    assert_eq!(last, Some(("create".to_owned(), "after.cfg".to_owned())));
                }
            });
        }
    });
}

fn await_that(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LONG, "in vain");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn another_process_that_holds_the_file_costs_no_record_and_no_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.history.flush(LONG);
    let holder = Connection::open(directory.path().join("history.db")).expect("a file");
    holder.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    bench.write("a.cfg", "one");
    // Longer than a backup takes.
    await_that(|| bench.history.shared.report().failure.is_some());
    bench.write("b.cfg", "two");
    assert!(rows(directory.path()).is_empty());
    holder.execute_batch("COMMIT").expect("it was begun");
    await_that(|| bench.history.shared.report().failure.is_none());
    bench.stop();
    let expected = [
        row("create", "a.cfg", None, Some("one")),
        row("create", "b.cfg", None, Some("two")),
    ];
    assert_eq!(rows(directory.path()), expected);
}

#[test]
fn what_does_not_fit_while_the_file_is_held_is_found_by_a_comparison() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    bench.write("a.cfg", "one");
    bench.history.flush(LONG);
    let holder = Connection::open(directory.path().join("history.db")).expect("a file");
    holder.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    let names = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];
    for name in names {
        bench.write(name, noise(7, 1_000_000));
    }
    bench.write("a.cfg", "two");
    bench.db.store().expect("a store");
    holder.execute_batch("COMMIT").expect("it was begun");
    await_that(|| {
        bench.history.flush(LONG);
        bench.history.shared.report().gap_count == 1
    });
    bench.stop();
    let mut rows = rows_without_content(directory.path());
    let gap = rows.iter().position(|(operation, _)| operation == "gap");
    // What came before is recorded as it happened.
    let (fitting, lost) = names.split_at(gap.expect("a gap") - 1);
    // The last one may have been written to after it.
    let written = fitting.last().map(|name| row_of("content", name));
    rows.retain(|row| Some(row) != written.as_ref());
    let create = |name: &&str| row_of("create", name);
    let mut expected = vec![row_of("create", "a.cfg")];
    expected.extend(fitting.iter().map(create));
    expected.extend([row_of("gap", ""), row_of("content", "a.cfg")]);
    expected.extend(lost.iter().map(create));
    assert_eq!(rows, expected);
    assert!(fitting.len() < 5, "4 MiB gather");
}

fn row_of(operation: &str, path: &str) -> (String, String) {
    (operation.to_owned(), path.to_owned())
}

fn rows_without_content(directory: &Path) -> Vec<(String, String)> {
    let file = Connection::open(directory.join("history.db")).expect("it opens");
    let select = "SELECT operation, CAST(path AS TEXT) FROM record ORDER BY seq";
    let mut statement = file.prepare(select).expect("the tables are there");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn a_file_of_another_version_is_kept_aside_and_a_new_one_begins() {
    for version in [0, 99] {
        let directory = tempfile::tempdir().expect("a directory");
        let bench = Bench::start(directory.path());
        bench.write("a.cfg", "one");
        bench.stop();
        let file = directory.path().join("history.db");
        let set = |version: i32| {
            let connection = Connection::open(&file).expect("a file");
            let set = connection.pragma_update(None, "user_version", version);
            set.expect("it is set");
        };
        set(version);
        let bench = Bench::start(directory.path());
        bench.history.flush(LONG);
        bench.write("b.cfg", "two");
        bench.stop();
        let expected = [
            row("gap", "", None, None),
            row("create", "b.cfg", None, Some("two")),
        ];
        assert_eq!(rows(directory.path()), expected);
        fs::rename(file.with_extension("db.broken"), &file).expect("it was kept");
        set(1);
        let first = row("create", "a.cfg", None, Some("one"));
        assert_eq!(rows(directory.path()), [first]);
    }
}

#[test]
fn a_busy_file_is_summed_up_at_an_orderly_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    for round in 0..100 {
        bench.write("a.cfg", round.to_string());
        bench.history.flush(LONG);
    }
    bench.stop();
    Bench::start(directory.path()).stop();
    let rows = rows(directory.path());
    assert_eq!(rows.len(), 61, "60 records and a summary");
    let last = row("content", "a.cfg", Some("59"), Some("99"));
    assert_eq!(rows.last(), Some(&last));
    let file = Connection::open(directory.path().join("history.db")).expect("a file");
    let select = "SELECT source, changes FROM record ORDER BY seq DESC LIMIT 1";
    let summary = file.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(summary, Ok(("summary".to_owned(), 40)));
}

#[test]
fn a_follower_hears_at_once_of_what_is_still_gathered() {
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let subscription = runtime.expect("a runtime").block_on(bench.history.follow());
    let (mut live, seq) = subscription.expect("it runs");
    bench.write("a.cfg", "one");
    let lines = live.blocking_recv().expect("it tells");
    let line = String::from_utf8(lines.text.to_vec()).expect("text");
    assert!(
        line.contains("\"create\"") && line.contains("a.cfg"),
        "{line}"
    );
    assert_eq!(lines.seq, seq, "nothing is written yet");
    bench.stop();
}
