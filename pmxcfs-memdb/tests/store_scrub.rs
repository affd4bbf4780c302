//! Rows that differ from memory are found and written anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::time::Instant;

use pmxcfs_memdb::store::ScrubStats;
use rusqlite::Connection;
use store_support::{Fixture, PATIENCE, Place};

/// A scrub from its beginning to its end, with what it mended on the disk.
fn scrub(fixture: &Fixture) -> ScrubStats {
    let before = fixture.store.stats().scrub.run_count;
    fixture.store.scrub();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = fixture.store.stats().scrub;
        if stats.run_count > before {
            fixture.sync().unwrap();
            return stats;
        }
        assert!(
            Instant::now() < deadline,
            "the scrub does not end: {stats:?}"
        );
        std::thread::yield_now();
    }
}

/// A store with more entries than a step takes.
fn filled(place: &Place) -> Fixture {
    let fixture = Fixture::open(place.config());
    for number in 0..150 {
        let file = fixture.create(&format!("f{number}"));
        fixture.write(file, 0, format!("content {number}").as_bytes());
    }
    fixture.sync().unwrap();
    fixture
}

#[test]
fn a_sound_database_is_left_alone() {
    let place = Place::new();
    let fixture = filled(&place);
    let commit_count = fixture.store.stats().commit_count;
    let stats = scrub(&fixture);
    assert_eq!((stats.row_count, stats.mended_count), (150, 0));
    assert_eq!(stats.failure, None);
    assert!(stats.last_secs > 0 && !stats.is_running);
    assert_eq!(fixture.store.stats().commit_count, commit_count);
    assert_eq!(
        fixture.store.shutdown(PATIENCE),
        pmxcfs_memdb::store::ShutdownOutcome::Clean
    );
}

#[test]
fn a_database_of_this_start_is_sound() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let stats = scrub(&fixture);
    assert_eq!(stats.mended_count, 0, "{:?}", stats.mended);
}

#[test]
fn whatever_differs_is_written_as_memory_has_it() {
    let cases = [
        (
            "UPDATE tree SET data = 'other' WHERE name = 'f3'",
            "f3: data differed",
        ),
        (
            "UPDATE tree SET mtime = 1, writer = 9 WHERE name = 'f149'",
            "f149: writer, mtime differed",
        ),
        (
            "UPDATE tree SET name = 'x' WHERE name = 'f70'",
            "f70: name differed",
        ),
        (
            "UPDATE tree SET type = 7 WHERE name = 'f70'",
            "f70: type 7 is neither",
        ),
        (
            "DELETE FROM tree WHERE name = 'f100'",
            "f100: the row was missing",
        ),
        (
            "INSERT INTO tree VALUES (7777, 0, 1, 1, 1, 8, 'new', 'x')",
            "inode 7777: memory has no such entry",
        ),
        (
            "INSERT INTO tree VALUES (-5, 0, 1, 1, 1, 8, 'new', 'x')",
            "inode 18446744073709551611: memory has no such entry",
        ),
        (
            "UPDATE tree SET version = 1 WHERE inode = 0",
            "the version row differs",
        ),
        (
            "DELETE FROM tree WHERE inode = 0",
            "the version row differs",
        ),
    ];
    let place = Place::new();
    let fixture = filled(&place);
    for (number, (statement, what)) in cases.into_iter().enumerate() {
        let expected = place.stored();
        let other = Connection::open(place.database()).unwrap();
        other.execute_batch(statement).unwrap();
        drop(other);
        let stats = scrub(&fixture);
        assert_eq!(
            stats.mended_count,
            number as u64 + 1,
            "{statement}: {stats:?}"
        );
        assert_eq!(stats.mended.len(), 1, "{statement}");
        assert!(
            stats.mended[0].starts_with(what),
            "{statement}: {}",
            stats.mended[0]
        );
        assert_eq!(place.stored(), expected, "{statement}");
    }
    assert_eq!(scrub(&fixture).mended, [""; 0]);
}

#[test]
fn changes_meanwhile_are_no_differences() {
    let place = Place::new();
    let fixture = filled(&place);
    let file = fixture.create("busy");
    let before = fixture.store.stats().scrub.run_count;
    fixture.store.scrub();
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while fixture.store.stats().scrub.run_count == before {
        number += 1;
        fixture.write(file, 0, format!("{number}").as_bytes());
        let made = fixture.create(&format!("made{number}"));
        fixture.write(made, 0, b"x");
        std::thread::yield_now();
        assert!(Instant::now() < deadline, "the scrub does not end");
        if number % 50 == 0 {
            // It works between commits.
            fixture.sync().unwrap();
        }
    }
    assert_eq!(fixture.store.stats().scrub.mended, [""; 0]);
}
