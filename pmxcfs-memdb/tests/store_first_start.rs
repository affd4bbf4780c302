//! What a start makes of a database that is missing or has zero bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use std::fs;

use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig, Warning};
use store_support::{Fixture, PATIENCE, Place, State, names};

fn accepting(place: &Place) -> StoreConfig {
    StoreConfig {
        accept_empty: true,
        ..place.config()
    }
}

/// Names and contents of all files.
fn contents(place: &Place) -> Vec<(String, Vec<u8>)> {
    let directories = [place.directory.path().to_owned(), place.run()];
    let files = directories.iter().flat_map(|directory| {
        names(directory)
            .into_iter()
            .map(|name| directory.join(name))
            .filter(|path| path.is_file())
    });
    files
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_new_database_is_complete_as_soon_as_it_is_there() {
    let place = Place::new();
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert!(loaded.created);
    assert_eq!(loaded.warnings, []);
    let copy = place.directory.path().join("copy");
    fs::copy(place.database(), &copy).unwrap();
    let (_store, loaded) = Store::open(StoreConfig::new(
        copy,
        place.directory.path().join("nowhere"),
    ))
    .unwrap();
    assert!(!loaded.created);
    assert_eq!(loaded.root.version, 1);
}

#[test]
fn a_file_of_zero_bytes_is_a_first_start_only_if_the_caller_says_so_and_nothing_tells_of_a_database()
 {
    let table: [(&str, bool, &[&str], bool); 6] = [
        ("nothing else", true, &[], true),
        ("nothing else, not accepted", false, &[], false),
        ("a log", true, &["config.db-wal"], false),
        ("a crash journal", true, &["run/memdb-journal.1"], false),
        (
            "copies alone",
            true,
            &["config.db.before-repair", "backup/config.sql"],
            true,
        ),
        (
            "all of it",
            false,
            &[
                "config.db-wal",
                "run/memdb-journal.0",
                "config.db.old",
                "backup/a",
            ],
            false,
        ),
    ];
    for (case, accept_empty, others, is_start) in table {
        let place = Place::new();
        fs::create_dir(place.directory.path().join("backup")).unwrap();
        fs::write(place.database(), b"").unwrap();
        for name in others {
            fs::write(place.directory.path().join(name), b"content").unwrap();
        }
        let before = contents(&place);
        let config = StoreConfig {
            accept_empty,
            ..place.config()
        };
        match Store::open(config) {
            Ok((_store, loaded)) => {
                assert!(is_start, "{case}");
                assert!(loaded.created);
                assert_eq!(loaded.warnings, [Warning::WasEmpty], "{case}");
            }
            Err(error) => {
                assert!(!is_start, "{case}: {error}");
                assert_eq!(contents(&place), before, "{case}");
                let text = error.to_string();
                assert!(text.contains("has 0 bytes"), "{case}: {text}");
                for name in others {
                    assert!(text.contains(name), "{case}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_first_start_goes_on_like_any_other() {
    let place = Place::new();
    fs::write(place.database(), b"").unwrap();
    let fixture = Fixture::open(accepting(&place));
    let a = fixture.create("a");
    fixture.write(a, 0, b"content");
    let expected = fixture.state();
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    assert_eq!(place.files(), ["config.db", "run"]);
    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert_eq!(State::of(&loaded), expected);
}

#[test]
fn the_log_of_a_database_that_is_gone_is_kept_and_not_applied() {
    let place = Place::new();
    let fixture = Fixture::open(place.config());
    fixture.create("former");
    fixture.sync().unwrap();
    let log = fs::read(place.directory.path().join("config.db-wal")).unwrap();
    assert!(!log.is_empty());
    assert_eq!(fixture.store.shutdown(PATIENCE), ShutdownOutcome::Clean);
    fs::remove_file(place.database()).unwrap();
    fs::write(place.directory.path().join("config.db-wal"), &log).unwrap();

    let (_store, loaded) = Store::open(place.config()).unwrap();
    assert!(loaded.entries.is_empty());
    let [Warning::LogKept { kept }] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    assert_eq!(fs::read(kept).unwrap(), log);
}
