//! Other processes use the database while the daemon runs: backups, queries, an operator's `sqlite3`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{ShutdownOutcome, Store, Warning};
use rusqlite::Connection;
use store_support::{Fixture, PATIENCE, Place, State};

fn log_size(place: &Place) -> u64 {
    let path = place.directory.path().join("config.db-wal");
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Waits for something that comes about by itself.
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::yield_now();
    }
}

#[test]
fn changes_of_another_program_are_noticed_and_reads_are_not() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    let changes = || fixture.store.stats().foreign_change_count;
    let other = Connection::open(place.database()).unwrap();
    let read = || other.execute_batch("SELECT * FROM tree; PRAGMA wal_checkpoint(PASSIVE)");
    read().unwrap();
    fixture.write(a, 0, b"content");
    fixture.sync().unwrap();
    read().unwrap();
    fixture.write(a, 0, b"CONTENT");
    fixture.sync().unwrap();
    assert_eq!(changes(), 0);

    other
        .execute_batch("DELETE FROM tree WHERE name='a'")
        .unwrap();
    until("a look at an idle database", || changes() == 1);
    other.execute_batch("UPDATE tree SET mtime=1").unwrap();
    fixture.write(a, 0, b"again");
    fixture.sync().unwrap();
    assert_eq!(changes(), 2);
    assert_eq!(place.stored(), fixture.state());
    drop(other);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn a_process_that_holds_the_database_delays_nobody() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // All of this is answered, although nothing can be committed.
    for round in 0..100_u32 {
        fixture.write(a, round * 10, b"0123456789");
    }
    until("a vain commit", || {
        fixture.store.stats().failed_commit_count > 5
    });
    assert!(!fixture.store.is_failed());
    assert!(fixture.store.stats().busy_count > 0);
    assert!(place.stored().entries[&a].data.is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    fixture.sync().unwrap();
    assert_eq!(fixture.store.stats().busy_count, 0);
    assert!(fixture.store.stats().last_commit_secs > 0);
    assert_eq!(place.stored(), fixture.state());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn a_shutdown_does_not_wait_longer_than_it_may_and_loses_nothing() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fixture.write(a, 0, b"kept");
    let expected = fixture.state();
    let outcome = fixture.store.shutdown(Duration::from_millis(50));
    assert_eq!(
        outcome,
        ShutdownOutcome::JournalKept {
            reason: "another process holds the database".to_owned()
        }
    );
    drop(other);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
    assert_eq!(loaded.warnings, [Warning::Recovered { operation_count: 1 }]);
}

#[test]
fn a_reader_sees_one_state_and_the_log_stays_small() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    let reader = Connection::open(place.database()).unwrap();
    let version = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT version FROM tree WHERE inode=0", [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    let seen = version(&reader);

    // The C daemon's log has 700 MB after this.
    for round in 0..60_u8 {
        for piece in 0..8 {
            fixture.write(a, piece * 131_072, &vec![round; 131_072]);
        }
    }
    until("the last commit", || {
        fixture.store.stats().queued_operation_count == 0
    });
    let size = log_size(&place);
    assert!(size < 24 << 20, "the log has {size} bytes");
    assert_eq!(version(&reader), seen);

    // Without the reader the log starts over.
    reader.execute_batch("COMMIT").unwrap();
    fixture.write(a, 0, b"x");
    fixture.sync().unwrap();
    fixture.write(a, 0, b"y");
    fixture.sync().unwrap();
    let size = log_size(&place);
    assert!(size < 5 << 20, "the log has {size} bytes");
    assert_eq!(
        version(&reader).cast_unsigned(),
        fixture.state().root.version
    );
    drop(reader);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.files(), ["config.db", "run"]);
}

#[test]
fn a_reader_that_outlives_the_daemon_keeps_the_log() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    fixture.sync().unwrap();
    let reader = Connection::open(place.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM tree").unwrap();
    let mut statement = reader.prepare("SELECT count(*) FROM tree").unwrap();
    assert_eq!(statement.query_row([], |row| row.get::<_, i64>(0)), Ok(2));
    fixture.write(a, 0, b"content");
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::LogKept);
    assert_eq!(store_support::names(&place.run()), [""; 0]);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), fixture.state());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn another_process_that_closes_the_database_does_not_take_the_log_along() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let mut expected = 0;
    for round in 0..5 {
        fixture.create(&format!("file{round}"));
        expected += 1;
        fixture.sync().unwrap();
        // A process of its own: locks of one process do not exclude each other.
        let output = std::process::Command::new("sqlite3")
            .arg(place.database())
            .arg("PRAGMA wal_checkpoint(TRUNCATE); SELECT count(*) FROM tree WHERE inode>0")
            .output()
            .expect("sqlite3 is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text.lines().last(),
            Some(expected.to_string().as_str()),
            "{text}"
        );
        assert!(place.directory.path().join("config.db-wal").exists());
    }
    let state = fixture.state();
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.stored(), state);
}

#[test]
fn threads_that_write_at_once_are_all_kept() {
    let place = Place::new();
    let fixture = Arc::new(Fixture::open(place.config()));
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let fixture = Arc::clone(&fixture);
            scope.spawn(move || {
                let inode = fixture.create(&format!("thread{thread}"));
                for round in 0..500_u32 {
                    fixture.write(inode, round % 64, &[thread; 100]);
                    if round % 100 == 0 {
                        let (dropped, made) = fixture.record(|state| {
                            state.create(
                                format!("t{thread}-{round}").as_bytes(),
                                EntryKind::Directory,
                            )
                        });
                        fixture.wait(made).unwrap();
                        let ((), removed) = fixture.record(|state| ((), state.remove(dropped)));
                        fixture.wait(removed).unwrap();
                    }
                }
            });
        }
    });
    let expected = fixture.state();
    assert_eq!(expected.entries.len(), 4);
    // What a kill would leave, and what a shutdown leaves.
    let copy = Place::new();
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    std::fs::copy(place.database(), copy.database()).unwrap();
    assert_eq!(copy.stored(), expected);
}
