//! The crash journal as a start finds it: whole, torn, damaged, of another database, or no journal at all.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{
    Access, JournalRefusal, SegmentError, ShutdownOutcome, Store, StoreConfig, Warning, examine,
};
use proptest::prelude::*;
use rusqlite::Connection;
use store_support::broken::BrokenDatabase;
use store_support::{Fixture, PATIENCE, Place, State, Tree, wait};

/// A daemon that was killed after these operations, none of which had reached the database.
struct Killed {
    place: Place,
    /// The states after each operation, the one at the start first.
    history: Vec<State>,
    /// Length of the journal after each of them.
    lengths: Vec<usize>,
}

impl Killed {
    fn journal(&self) -> PathBuf {
        self.place.run().join("memdb-journal.0")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.journal()).unwrap()
    }

    fn open(&self) -> (State, Vec<Warning>) {
        let (_store, loaded) = Store::open(self.place.config()).unwrap();
        (State::of(&loaded), loaded.warnings)
    }
}

fn killed() -> Killed {
    let place = Place::new();
    let (store, loaded) = Store::open(place.config()).unwrap();
    let tree = Tree(RwLock::new(State::of(&loaded)));
    let handle = store.handle();
    let mut killed = Killed {
        place,
        history: vec![State::of(&loaded)],
        lengths: Vec::new(),
    };
    killed.lengths.push(killed.bytes().len());
    for step in 0..6_u32 {
        let mut state = tree.0.write();
        let changes = match step {
            0 => state.create(b"a", EntryKind::File).1,
            1 => state.write(2, 0, b"content", false),
            2 => state.create(b"b", EntryKind::Directory).1,
            3 => vec![state.drop_silently(4)],
            4 => state.write(2, 9, b"more", false),
            _ => state.rename(2, b"c"),
        };
        let ticket = handle.record(state.root, &changes, &|inode| state.entries.get(&inode));
        wait(|done| handle.acknowledge(ticket, done)).unwrap();
        killed.history.push(state.clone());
        killed.lengths.push(killed.bytes().len());
    }
    killed
}

#[test]
fn a_torn_tail_is_ignored_wherever_it_is_torn() {
    let killed = killed();
    let bytes = killed.bytes();
    for length in 0..=bytes.len() {
        fs::write(killed.journal(), &bytes[..length]).unwrap();
        let (found, warnings) = killed.open();
        let complete = killed.lengths.iter().filter(|end| **end <= length).count();
        let expected = &killed.history[complete.saturating_sub(1)];
        assert_eq!(found.entries, expected.entries, "cut at {length}");
        let refused = warnings
            .iter()
            .any(|warning| matches!(warning, Warning::JournalRefused { .. }));
        assert!(!refused, "cut at {length}: {warnings:?}");
    }
}

#[test]
fn a_torn_journal_goes_on_behind_its_last_record() {
    let killed = killed();
    let bytes = killed.bytes();
    fs::write(killed.journal(), &bytes[..killed.lengths[4] + 5]).unwrap();
    let mut expected = killed.history[4].clone();
    for round in 0..3_u32 {
        // Each life adds an operation and is killed, without ever reaching the database.
        let config = StoreConfig {
            medium: BrokenDatabase::shared(),
            ..killed.place.config()
        };
        let (store, loaded) = Store::open(config).unwrap();
        assert_eq!(State::of(&loaded), expected);
        let fixture = Fixture::start(store, &loaded);
        let (_, ticket) = fixture
            .record(|state| state.create(format!("life{round}").as_bytes(), EntryKind::File));
        fixture.wait(ticket).unwrap();
        expected = fixture.state();
        let outcome = fixture.store.shutdown(Duration::ZERO);
        assert!(
            matches!(outcome, ShutdownOutcome::JournalKept { .. }),
            "{outcome:?}"
        );
    }
    let fixture = Fixture::open(killed.place.config());
    assert_eq!(fixture.state(), expected);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(killed.place.files(), ["config.db", "run"]);
    assert_eq!(killed.place.stored(), expected);
}

#[test]
fn a_damaged_byte_never_makes_up_a_state() {
    let killed = killed();
    let bytes = killed.bytes();
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x10;
        fs::write(killed.journal(), &damaged).unwrap();
        let (found, warnings) = killed.open();
        let intact = killed
            .lengths
            .iter()
            .filter(|end| **end <= position)
            .count();
        let expected = &killed.history[intact.saturating_sub(1)];
        assert_eq!(found.entries, expected.entries, "byte {position}");
        let refused = warnings
            .iter()
            .any(|warning| matches!(warning, Warning::JournalRefused { .. }));
        assert_eq!(
            refused,
            position < killed.lengths[0],
            "byte {position}: {warnings:?}"
        );
        for name in store_support::names(&killed.place.run()) {
            fs::remove_file(killed.place.run().join(name)).unwrap();
        }
    }
}

/// The reason and the content of what was kept aside.
fn refusal(killed: &Killed) -> (JournalRefusal, Vec<Vec<u8>>) {
    let (found, warnings) = killed.open();
    assert_eq!(
        found.entries,
        killed.place.stored().entries,
        "nothing is applied"
    );
    let [Warning::JournalRefused { reason, kept }] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    let (again, warnings) = killed.open();
    assert_eq!(again, found);
    assert_eq!(warnings, [], "it is said once");
    let beside = |path: &PathBuf| path.parent() == Some(killed.place.directory.path());
    assert!(kept.iter().all(beside), "it survives a power cut: {kept:?}");
    (
        reason.clone(),
        kept.iter().map(|path| fs::read(path).unwrap()).collect(),
    )
}

#[test]
fn a_journal_of_another_file_is_kept_aside() {
    let killed = killed();
    let journal = killed.bytes();
    // The same content, as a restored backup has it.
    let copy = killed.place.directory.path().join("copy");
    fs::copy(killed.place.database(), &copy).unwrap();
    fs::rename(copy, killed.place.database()).unwrap();
    let (reason, kept) = refusal(&killed);
    assert_eq!(reason, JournalRefusal::OtherFile);
    assert_eq!(kept, [journal]);
}

#[test]
fn a_journal_is_not_laid_over_what_somebody_else_wrote() {
    let killed = killed();
    let journal = killed.bytes();
    let connection = Connection::open(killed.place.database()).unwrap();
    connection
        .execute_batch(
            "UPDATE tree SET version=2, mtime=77 WHERE inode=0;
             INSERT INTO tree VALUES (2, 0, 2, 0, 77, 8, 'by a C daemon', NULL);",
        )
        .unwrap();
    drop(connection);
    let (reason, kept) = refusal(&killed);
    assert_eq!(
        reason,
        JournalRefusal::OtherState {
            found: 2,
            expected: 1
        }
    );
    assert_eq!(kept, [journal]);
}

#[test]
fn a_journal_of_a_newer_program_is_kept_aside() {
    let killed = killed();
    let mut bytes = killed.bytes();
    bytes[8] = 9;
    fs::write(killed.journal(), &bytes).unwrap();
    let (reason, kept) = refusal(&killed);
    assert_eq!(reason, JournalRefusal::Unreadable(SegmentError::Format(9)));
    assert_eq!(kept, [bytes]);
}

#[test]
fn a_journal_without_records_bothers_nobody() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fixture.create("a");
    fixture.sync().unwrap();
    let journal = place.run().join("memdb-journal.0");
    // Killed while idle: the files are there, and hold nothing that the database lacks.
    let idle: Vec<Vec<u8>> = ["0", "1"]
        .map(|n| fs::read(journal.with_extension(n)).unwrap())
        .into();
    fixture.store.shutdown(PATIENCE);
    for (n, bytes) in idle.iter().enumerate() {
        fs::write(journal.with_extension(n.to_string()), bytes).unwrap();
    }
    let connection = Connection::open(place.database()).unwrap();
    connection
        .execute_batch("UPDATE tree SET version=90 WHERE inode=0")
        .unwrap();
    drop(connection);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(loaded.root.version, 90);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_start_after_a_commit_that_was_not_cleared_changes_nothing() {
    let killed = killed();
    let journal = killed.bytes();
    let expected = killed.history.last().unwrap();
    for round in 0..2 {
        let fixture = Fixture::open(killed.place.config());
        assert_eq!(&fixture.state(), expected, "{round}");
        assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
        // As if the process had died between the commit and the clearing of the journal.
        fs::write(killed.journal(), &journal).unwrap();
    }
    let (found, warnings) = killed.open();
    assert_eq!(&found, expected);
    assert_eq!(warnings, []);
}

#[test]
fn records_of_a_former_life_are_not_taken_for_new_ones() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    let journal = place.run().join("memdb-journal.0");

    // A life whose records are as long as those of the next, and reached the database.
    let one_life = |contents: &[&[u8]]| {
        let (store, loaded) = Store::open(place.config()).unwrap();
        let mut state = State::of(&loaded);
        let handle = store.handle();
        for content in contents {
            let changes = state.write(a, 0, content, false);
            let ticket = handle.record(state.root, &changes, &|inode| state.entries.get(&inode));
            wait(|done| handle.acknowledge(ticket, done)).unwrap();
        }
        state
    };
    one_life(&[b"one", b"two"]);
    let stale = fs::read(&journal).unwrap();
    let fixture = Fixture::open(place.config());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    fs::write(&journal, &stale).unwrap();

    let expected = one_life(&[b"new"]);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
}

#[test]
fn a_run_directory_that_is_removed_is_made_anew_with_all_that_the_database_lacks() {
    for removed_after in 0..6 {
        let place = Place::new();
        let fixture = Fixture::open(StoreConfig {
            medium: BrokenDatabase::shared(),
            ..place.config()
        });
        for round in 0..6 {
            if round == removed_after {
                fs::remove_dir_all(place.run()).unwrap();
            }
            fixture.create(&format!("f{round}"));
        }
        let expected = fixture.state();
        fixture.store.shutdown(Duration::ZERO);
        let (_store, loaded) = Store::open(place.config()).unwrap();
        assert_eq!(
            State::of(&loaded),
            expected,
            "removed after {removed_after}"
        );
    }
}

#[test]
fn a_journal_that_is_removed_comes_back_without_another_change() {
    let place = Place::new();
    let fixture = Fixture::open(StoreConfig {
        medium: BrokenDatabase::shared(),
        ..place.config()
    });
    let a = fixture.create("a");
    fixture.write(a, 0, b"content");
    let expected = fixture.state();
    fs::remove_dir_all(place.run()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "it did not come back");
        let found = examine(&place.database(), Access::Live, Some(&place.run())).unwrap();
        if found.root == expected.root {
            assert_eq!(found.entries[0].data, "content");
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn without_a_run_directory_operations_are_acknowledged_by_commits() {
    let place = Place::new();
    fs::remove_dir(place.run()).unwrap();
    let (store, loaded) = Store::open(place.config()).unwrap();
    assert!(
        matches!(loaded.warnings[..], [Warning::NoJournal { .. }]),
        "{:?}",
        loaded.warnings
    );
    let fixture = Fixture::start(store, &loaded);
    let a = fixture.create("a");
    fixture.write(a, 0, b"x");
    assert!(fixture.store.stats().commit_count >= 2);
    assert_eq!(place.stored(), fixture.state());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn what_does_not_fit_into_the_journal_waits_for_the_database() {
    let place = Place::new();
    let fixture = Fixture::open(StoreConfig {
        journal_limit_bytes: 4096,
        ..place.config()
    });
    let a = fixture.create("a");
    fixture.write(a, 0, &[1; 100_000]);
    assert_eq!(place.stored(), fixture.state());
    // The journal works again afterwards.
    fixture.write(a, 0, b"small");
    fixture.sync().unwrap();
    let before = fixture.store.stats().journaled_bytes;
    fixture.write(a, 0, b"small");
    assert!(fixture.store.stats().journaled_bytes > before);
    fixture.store.shutdown(PATIENCE);
    assert_eq!(place.stored(), fixture.state());
}

#[test]
fn files_keep_their_room_from_commit_to_commit() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    for round in 0..6 {
        for _ in 0..10 {
            fixture.write(a, 0, &[round; 4096]);
        }
        fixture.sync().unwrap();
    }
    let stats = fixture.store.stats();
    let sizes = ["0", "1"].map(|number| {
        let path = place.run().join("memdb-journal").with_extension(number);
        fs::metadata(path).unwrap().len()
    });
    assert!(stats.journal_size_bytes < 1000, "{stats:?}");
    assert!(sizes.iter().all(|size| *size > 10 * 4096), "{sizes:?}");
    assert_eq!(stats.journal_allocated_bytes, sizes.iter().sum::<u64>());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.files(), ["config.db", "run"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_taken_for_what_they_are(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        like_a_segment in any::<bool>(),
    ) {
        let place = Place::new();
        let (_store, before) = Store::open(place.config()).unwrap();
        let journal = place.run().join("memdb-journal.0");
        let mut content = if like_a_segment { fs::read(&journal).unwrap() } else { Vec::new() };
        content.extend(bytes);
        fs::write(&journal, &content).unwrap();
        let (_store, loaded) = Store::open(place.config()).unwrap();
        prop_assert_eq!(loaded.entries, before.entries);
        if like_a_segment || content.is_empty() {
            prop_assert_eq!(loaded.warnings, []);
        } else {
            let refused = matches!(loaded.warnings[..], [Warning::JournalRefused { .. }]);
            prop_assert!(refused, "{:?}", loaded.warnings);
        }
    }
}
