//! The life of a store without accidents: new database, operations, shutdown, next start.
#![expect(clippy::disallowed_types, reason = "a lock of a test has no rank")]

mod store_support;

use std::os::unix::fs::PermissionsExt;

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig};
use store_support::{Fixture, PATIENCE, Place, State};

#[test]
fn a_new_database_has_version_1_and_no_mtime_in_memory() {
    let place = Place::new();
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert!(loaded.created);
    assert_eq!(
        (loaded.root.version, loaded.root.writer, loaded.root.mtime),
        (1, 0, 0)
    );
    assert!(loaded.entries.is_empty());
    assert_eq!(loaded.warnings, []);
    let stored = place.stored();
    assert_eq!(stored.root.version, 1);
    assert!(stored.root.mtime > 1_700_000_000, "{:?}", stored.root);
}

#[test]
fn what_was_done_is_there_after_a_restart() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    let a = fixture.create("a");
    let b = fixture.create("b");
    fixture.write(a, 0, b"hello");
    fixture.write(b, 0, &[7; 10_000]);
    fixture.write(a, 3, b"p me");
    let (_, _created) = fixture.record(|state| state.create(b"dir", EntryKind::Directory));
    let ((), renamed) = fixture.record(|state| ((), state.rename(a, b"b")));
    fixture.wait(renamed).unwrap();
    let before = fixture.state();
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.files(), ["config.db", "run"]);
    assert_eq!(place.stored(), before);

    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert!(!loaded.created);
    assert_eq!(State::of(&loaded), before);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn files_are_for_root_only() {
    let place = Place::new();
    std::fs::write(place.database(), b"").unwrap();
    std::fs::set_permissions(place.database(), PermissionsExt::from_mode(0o644)).unwrap();
    let fixture = Fixture::open(StoreConfig {
        accept_empty: true,
        ..place.config()
    });
    fixture.create("secret");
    fixture.sync().unwrap();
    let mut modes = Vec::new();
    for directory in [place.directory.path().to_owned(), place.run()] {
        for name in store_support::names(&directory) {
            let metadata = std::fs::metadata(directory.join(&name)).unwrap();
            if metadata.is_file() {
                modes.push((name, metadata.permissions().mode() & 0o777));
            }
        }
    }
    let expected = [
        "config.db",
        "config.db-shm",
        "config.db-wal",
        "memdb-journal.0",
        "memdb-journal.1",
    ];
    assert_eq!(modes, expected.map(|name| (name.to_owned(), 0o600)));
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn nothing_is_taken_after_a_shutdown() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fixture.create("a");
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    let (_inode, ticket) = fixture.record(|state| state.create(b"late", EntryKind::File));
    assert_eq!(fixture.wait(ticket), Err(pmxcfs_api_types::FsError::Io));
    assert_eq!(fixture.sync(), Err(pmxcfs_api_types::FsError::Io));
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let (store, loaded) = Store::open(place.config()).unwrap();
    // Acknowledged by the journal alone: no thread ever runs.
    let tree = store_support::Tree(parking_lot::RwLock::new(State::of(&loaded)));
    let handle = store.handle();
    let mut expected = State::default();
    for round in 0..100_u32 {
        let mut state = tree.0.write();
        let (_, mut changes) = state.create(format!("f{round}").as_bytes(), EntryKind::File);
        let inode = state.root.version;
        changes.extend(state.write(inode, round, b"content", false));
        let ticket = handle.record(state.root, &changes, &|inode| state.entries.get(&inode));
        store_support::wait(|done| handle.acknowledge(ticket, done)).unwrap();
        expected = state.clone();
    }
    drop((store, handle));
    assert!(place.stored().entries.is_empty());

    for _start in 0..2 {
        let (store, loaded) = Store::open(place.config()).unwrap();
        assert_eq!(State::of(&loaded), expected);
        assert_eq!(
            loaded
                .warnings
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["recovered 100 operations from the crash journal"]
        );
        drop(store);
    }
    let (store, loaded) = Store::open(place.config()).unwrap();
    let fixture = Fixture::start(store, &loaded);
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.files(), ["config.db", "run"]);
    assert_eq!(place.stored(), expected);
}
