//! The crash journal of a daemon that was killed: never silently left out.

use std::fs;

use pmxcfs_memdb::store::journal_files;
use pmxcfs_memdb::{EntryKind, RootState};
use rusqlite::Connection;

use crate::place::{Place, VERSION_ROW, entry, tool};

const ROOT: RootState = RootState {
    version: 10,
    writer: 0,
    mtime: 1_700_000_000,
};

fn place() -> Place {
    let place = Place::with_entries(ROOT, &[entry(2, 0, EntryKind::File, b"old", b"stored")]);
    place.leave_journal(&[("new", "acknowledged"), ("newer", "as well")]);
    place
}

#[test]
fn readers_see_what_a_start_would_see_and_say_so() {
    let place = place();
    let database = fs::read(place.database()).unwrap();
    let journal = journal_files(&place.run_dir()).map(|path| fs::read(path).unwrap());

    let dump = place.tool("dump", &["--contents"]).expect(0);
    assert!(
        dump.notes.contains("2 operations of the crash journal"),
        "{dump:#?}"
    );
    assert!(dump.out.contains("| acknowledged"), "{dump:#?}");
    assert!(dump.out.starts_with("# version 12,"), "{dump:#?}");
    place
        .tool::<&str>("check", &[])
        .expect(0)
        .says("version 12,")
        .says("2 operations of the crash journal");
    let target = place.path("target");
    place.tool("export", &[&target]).expect(0);
    assert_eq!(fs::read_to_string(target.join("newer")).unwrap(), "as well");

    let stored = place
        .tool("dump", &["--contents", "--ignore-journal"])
        .expect(0);
    assert!(!stored.out.contains("acknowledged"), "{stored:#?}");

    assert_eq!(fs::read(place.database()).unwrap(), database);
    assert_eq!(
        journal_files(&place.run_dir()).map(|path| fs::read(path).unwrap()),
        journal
    );
}

#[test]
fn its_records_can_be_shown_and_a_torn_one_is_told() {
    let place = place();
    let answer = place.tool::<&str>("journal", &[]);
    let answer = answer.expect(0);
    for text in [
        "2 operations",
        "behind version 10, writer 0, 2023-11-14T22:13:20Z",
        "version 11,",
        "file inode 11 'new' in inode 0, version 11: 12 bytes at 0, size 12",
        "file inode 12 'newer'",
        "not in use",
    ] {
        assert!(answer.out.contains(text), "{text}: {answer:#?}");
    }
    assert!(
        answer
            .out
            .contains(&format!("({})", place.database().display())),
        "{answer:#?}"
    );

    let file = journal_files(&place.run_dir())
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    tool([std::ffi::OsStr::new("journal"), file.as_ref()])
        .expect(0)
        .says("1 operation\n")
        .says("behind the last whole operation");
    place
        .tool::<&str>("check", &[])
        .expect(0)
        .says("1 operation of the crash journal");

    fs::write(&file, b"something else").unwrap();
    tool([std::ffi::OsStr::new("journal"), file.as_ref()])
        .expect(2)
        .says("is not a crash journal");
    place
        .tool::<&str>("check", &[])
        .expect(1)
        .says("puts the crash journal aside");
}

#[test]
fn a_journal_of_another_state_is_a_warning() {
    let place = place();
    Connection::open(place.database())
        .unwrap()
        .execute_batch("UPDATE tree SET version=5 WHERE inode=0")
        .unwrap();
    place
        .tool::<&str>("check", &[])
        .expect(1)
        .says("changed or replaced by something else");
    let dump = place.tool("dump", &["--contents"]).expect(0);
    assert!(dump.notes.contains("left out"), "{dump:#?}");
    assert!(!dump.out.contains("acknowledged"), "{dump:#?}");
}

#[test]
fn a_copy_is_judged_without_the_journal_of_the_original() {
    let place = place();
    let copy = place.path("copy.db");
    fs::copy(place.database(), &copy).unwrap();
    let root = place.path("");
    // As on a node: the run directory is found by default, and has the journal of another file.
    fs::create_dir(root.join("run/pve-cluster")).unwrap();
    for file in journal_files(&place.run_dir()) {
        fs::copy(
            &file,
            root.join("run/pve-cluster").join(file.file_name().unwrap()),
        )
        .unwrap();
    }
    let arguments = [
        "check".as_ref(),
        "--root-dir".as_ref(),
        root.as_os_str(),
        "--db".as_ref(),
        copy.as_os_str(),
    ];
    tool(arguments).expect(0).says("version 10,").says("clean");
}

#[test]
fn the_journal_is_found_by_where_the_database_is() {
    let place = place();
    let root = place.path("root");
    for (from, to) in [
        (place.path("state"), root.join("var/lib/pve-cluster")),
        (place.run_dir(), root.join("run/pve-cluster")),
    ] {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(from, to).unwrap();
    }
    let database = root.join("var/lib/pve-cluster/config.db");
    let copy = place.path("copy.db");
    fs::copy(&database, &copy).unwrap();
    tool(["diff".as_ref(), database.as_os_str(), copy.as_os_str()])
        .expect(1)
        .says("2 operations of the crash journal")
        .says("sync: A leads")
        .says("only A   newer");
    for arguments in [
        ["--db".as_ref(), database.as_os_str()],
        ["--root-dir".as_ref(), root.as_os_str()],
    ] {
        tool([&["check".as_ref()], &arguments[..]].concat())
            .expect(0)
            .says("version 12,");
    }
}

#[test]
fn repair_brings_the_journal_in_when_the_daemon_cannot() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'old', 'stored')"]);
    place.leave_journal(&[("new", "acknowledged")]);
    Connection::open(place.database())
        .unwrap()
        .execute_batch("INSERT INTO tree VALUES (3, 9, 3, 0, 0, 8, 'lost', 'x')")
        .unwrap();
    // The fault is in the rows, so a start would not get to the journal.
    place.tool::<&str>("check", &[]).expect(3);
    place
        .tool("repair", &["--apply"])
        .expect(0)
        .says("1 operation of the crash journal brought in");
    for path in journal_files(&place.run_dir()) {
        assert_eq!(fs::metadata(path).unwrap().len(), 0);
    }
    place
        .tool::<&str>("check", &[])
        .expect(0)
        .says("version 52,");
    place
        .tool("dump", &["--contents", "new"])
        .expect(0)
        .says("| acknowledged");
    let kept = place.files();
    assert!(
        kept.iter().any(|name| name.contains("memdb-journal")),
        "{kept:?}"
    );
}

#[test]
fn an_empty_run_directory_has_no_journal() {
    let place = Place::with_entries(ROOT, &[]);
    place
        .tool::<&str>("journal", &[])
        .expect(0)
        .says("there is no crash journal");
    tool([
        std::ffi::OsStr::new("journal"),
        place.path("missing").as_ref(),
    ])
    .expect(2)
    .says("cannot find");
}

#[test]
fn a_killed_daemons_database_is_closed() {
    let place = place();
    place
        .tool::<&str>("close", &[])
        .expect(0)
        .says("recovered 2 operations from the crash journal")
        .says("everything is in this file");
    let names = || {
        fs::read_dir(place.path("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".pmxcfs.lockfile")
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["config.db"]);
    assert!(
        journal_files(&place.run_dir())
            .iter()
            .all(|file| !file.exists())
    );
    let dump = place.tool("dump", &["--contents"]).expect(0);
    assert!(dump.out.starts_with("# version 12,"), "{dump:#?}");
    assert!(dump.out.contains("| acknowledged"), "{dump:#?}");
    // There is nothing to do the second time, and nothing is made where there is no database.
    let before = fs::read(place.database()).unwrap();
    place.tool::<&str>("close", &[]).expect(0);
    assert_eq!(fs::read(place.database()).unwrap(), before);
    fs::remove_file(place.database()).unwrap();
    place.tool::<&str>("close", &[]).expect(2);
    assert_eq!(names(), [""; 0]);
}

#[test]
fn closing_keeps_a_journal_of_another_database() {
    let place = place();
    let other = Place::with_copy(&place);
    fs::remove_dir(other.run_dir()).unwrap();
    fs::rename(place.run_dir(), other.run_dir()).unwrap();
    other
        .tool::<&str>("close", &[])
        .expect(1)
        .says("the crash journal is not applied")
        .says("it is kept as");
    let mut kept = fs::read_dir(other.path("state")).unwrap();
    assert!(kept.any(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().contains("refused")
    }));
}

#[test]
fn a_database_in_use_is_not_closed() {
    let place = place();
    let held = Connection::open(place.database()).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    place
        .tool::<&str>("close", &[])
        .expect(2)
        .says("another process holds the database");
    drop(held);
    place
        .tool::<&str>("close", &[])
        .expect(0)
        .says("recovered 2 operations");
}
