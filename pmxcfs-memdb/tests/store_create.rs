//! Databases that a tool writes without a daemon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{ShutdownOutcome, StoreError, create};
use store_support::{Fixture, PATIENCE, Place, State};

fn state(names: &[&str]) -> State {
    let mut state = State::default();
    state.root.version = 1;
    for name in names {
        let (inode, _) = state.create(name.as_bytes(), EntryKind::File);
        state.write(inode, 0, name.repeat(1000).as_bytes(), false);
    }
    state
}

fn write(place: &Place, state: &State) -> Result<(), StoreError> {
    let entries: Vec<_> = state.entries.values().cloned().collect();
    create(&place.database(), state.root, &entries)
}

#[test]
fn a_created_database_is_complete_and_can_be_replaced() {
    let place = Place::new();
    for names in [&["a", "b"][..], &["only"], &[]] {
        let state = state(names);
        write(&place, &state).unwrap();
        assert_eq!(place.files(), ["config.db", "run"]);
        let mode = fs::metadata(place.database()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let fixture = Fixture::open(place.config());
        assert_eq!(fixture.state(), state);
        assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    }
}

#[test]
fn a_database_in_use_is_left_alone() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fixture.create("a");
    fixture.sync().unwrap();
    let error = write(&place, &state(&["b"])).unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    assert_eq!(place.stored(), fixture.state());
    fixture.store.shutdown(PATIENCE);
}

#[test]
fn nothing_is_left_of_what_cannot_be_written() {
    let place = Place::new();
    write(&place, &state(&["a"])).unwrap();
    let before = fs::read(place.database()).unwrap();
    // A directory in the way of the log makes SQLite fail half-way.
    let draft = format!("config.db.new-{}", std::process::id());
    fs::create_dir(place.directory.path().join(format!("{draft}-wal"))).unwrap();
    write(&place, &state(&["b"])).unwrap_err();
    assert_eq!(fs::read(place.database()).unwrap(), before);
    assert!(!place.directory.path().join(draft).exists());
}
