//! A database that somebody uses, and who may touch it then.

use std::fs;
use std::time::{Duration, Instant};

use pmxcfs::daemon::instance::InstanceLock;
use pmxcfs_memdb::store::{ShutdownOutcome, Store, StoreConfig};
use pmxcfs_memdb::{EntryKind, MemDb, Operation, RootState, Rules, Tree};

use crate::place::{Answer, Place, entry, tool};

fn place() -> Place {
    let root = RootState {
        version: 5,
        writer: 0,
        mtime: 9,
    };
    Place::with_entries(root, &[entry(2, 0, EntryKind::File, b"a", b"content")])
}

/// Every command that takes the database, with the status of a refusal.
fn calls(place: &Place) -> Vec<(&'static str, i32, Answer)> {
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("new"), "x").unwrap();
    let database = place.database();
    let source = source.to_str().unwrap();
    let target = place.path("target");
    let target = target.to_str().unwrap();
    vec![
        ("check", 2, place.tool::<&str>("check", &[])),
        ("dump", 2, place.tool::<&str>("dump", &[])),
        ("repair", 2, place.tool::<&str>("repair", &[])),
        ("repair --apply", 2, place.tool("repair", &["--apply"])),
        ("export", 2, place.tool("export", &[target])),
        ("import", 2, place.tool("import", &["--replace", source])),
        (
            "create",
            255,
            tool(["create", source, database.to_str().unwrap()]),
        ),
        (
            "diff",
            2,
            tool([
                std::ffi::OsStr::new("diff"),
                database.as_ref(),
                database.as_ref(),
            ]),
        ),
    ]
}

#[test]
fn a_database_whose_lock_is_held_is_refused_and_stays_as_it_is() {
    let place = place();
    let before = fs::read(place.database()).unwrap();
    let lock = InstanceLock::acquire(&place.lock_file()).unwrap();
    for (name, status, answer) in calls(&place) {
        assert_eq!(answer.status, status, "{name}: {answer:#?}");
        assert!(answer.notes.contains("is in use"), "{name}: {answer:#?}");
        assert!(
            answer.notes.contains(".pmxcfs.lockfile"),
            "{name}: {answer:#?}"
        );
    }
    assert_eq!(fs::read(place.database()).unwrap(), before);
    assert_eq!(place.files(), ["config.db"]);
    assert!(!place.path("target").exists());

    // A link to it is the same database.
    let link = place.path("link.db");
    std::os::unix::fs::symlink(place.database(), &link).unwrap();
    tool([
        std::ffi::OsStr::new("check"),
        "--db".as_ref(),
        link.as_ref(),
    ])
    .expect(2)
    .says("is in use");

    drop(lock);
    place.tool::<&str>("check", &[]).expect(0);
}

#[test]
fn copies_beside_a_database_in_use_can_be_looked_at() {
    let place = place();
    let copy = place.path("state/config.db.copy");
    fs::copy(place.database(), &copy).unwrap();
    let _lock = InstanceLock::acquire(&place.lock_file()).unwrap();
    tool([
        std::ffi::OsStr::new("check"),
        "--db".as_ref(),
        copy.as_ref(),
    ])
    .expect(0);
}

#[test]
fn a_daemon_is_not_disturbed_by_a_reader_of_its_last_commit() {
    let place = place();
    let _lock = InstanceLock::acquire(&place.lock_file()).unwrap();
    let config = StoreConfig::new(place.database(), place.run_dir());
    let (store, loaded) = Store::open(config).unwrap();
    let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Local, 0).unwrap();
    let db = MemDb::new(tree, Instant::now());
    db.start_store(store).unwrap();
    let create = |name: &'static str| {
        db.apply_and_wait(&Operation::Create { path: name.into() })
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        db.sync(move |result| sender.send(result).unwrap());
        receiver
            .recv_timeout(Duration::from_secs(60))
            .unwrap()
            .unwrap();
    };
    for name in ["b", "c", "d"] {
        create(name);
        place
            .tool("dump", &["--live", name])
            .expect(0)
            .says("a daemon is using it");
    }
    place.tool("check", &["--live"]).expect(0).says("clean");
    place.tool::<&str>("dump", &[]).expect(2).says("--live");
    create("e");
    let outcome = db.shutdown(Duration::from_secs(60));
    assert_eq!(outcome, Some(ShutdownOutcome::Clean));
    assert_eq!(place.files(), ["config.db"]);
}

#[test]
fn readers_do_not_refuse_each_other() {
    let place = place();
    let lock = fs::File::create(place.lock_file()).unwrap();
    lock.lock_shared().unwrap();
    place.tool::<&str>("check", &[]).expect(0);
    place
        .tool(
            "import",
            &["--replace", place.path("run").to_str().unwrap()],
        )
        .expect(2)
        .says("is in use");
}
