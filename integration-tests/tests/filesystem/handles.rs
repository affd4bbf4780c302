//! Open files and what happens to their names meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};

use integration_tests::{Host, database};

use crate::names;

fn open(path: &std::path::Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn content(file: &File) -> Vec<u8> {
    let mut buffer = vec![0; 1000];
    let count = file.read_at(&mut buffer, 0).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn an_unlinked_file_lives_until_its_last_close() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("d/f"), "old").unwrap();
    let file = open(&host.path("d/f"));
    fs::remove_file(host.path("d/f")).unwrap();
    assert_eq!(names(&host.path("d")), [""; 0], "no hidden name");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(content(&file), b"old");
    file.write_at(b"OLD and more", 0).unwrap();
    assert_eq!(content(&file), b"OLD and more");
    file.set_len(3).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3);
    assert_eq!(content(&file), b"OLD");

    fs::write(host.path("d/f"), "new").unwrap();
    assert_eq!(content(&file), b"OLD", "the handle stays with its file");
    assert_eq!(fs::read(host.path("d/f")).unwrap(), b"new");
    fs::remove_file(host.path("d/f")).unwrap();
    fs::remove_dir(host.path("d")).unwrap();
    assert_eq!(content(&file), b"OLD", "even without its directory");
    drop(file);
    daemon.stop();
    let rows = database::query(
        &host.database(),
        "SELECT count(*) FROM tree WHERE inode != 0",
    );
    assert_eq!(rows, "0", "nothing is left in the database");
}

#[test]
fn a_replaced_file_lives_until_its_last_close() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "old").unwrap();
    fs::write(host.path("f.tmp"), "new").unwrap();
    let old = open(&host.path("f"));
    let new = open(&host.path("f.tmp"));
    fs::rename(host.path("f.tmp"), host.path("f")).unwrap();
    assert!(
        names(&host.mount_dir())
            .iter()
            .all(|name| !name.starts_with(".fuse_hidden"))
    );
    assert_eq!(content(&old), b"old");
    assert_eq!(content(&new), b"new");
    old.write_at(b"OLD", 0).unwrap();
    new.write_at(b"NEW", 0).unwrap();
    assert_eq!(content(&old), b"OLD");
    assert_eq!(fs::read(host.path("f")).unwrap(), b"NEW");
    drop((old, new));
    daemon.stop();
    let daemon = host.start();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"NEW");
    daemon.stop();
}

#[test]
fn removing_and_replacing_open_files_take_one_version_each() {
    let host = Host::new();
    let daemon = host.start();
    for name in ["a", "b", "c"] {
        fs::write(host.path(name), name).unwrap();
    }
    let witness = File::create_new(host.path("witness")).unwrap();
    let version = || {
        witness.sync_all().unwrap();
        database::tree_version(&host.database())
    };
    let open_files = [open(&host.path("a")), open(&host.path("b"))];
    let before = version();
    fs::remove_file(host.path("a")).unwrap();
    assert_eq!(version() - before, 1);
    fs::rename(host.path("c"), host.path("b")).unwrap();
    assert_eq!(version() - before, 2);
    drop(open_files);
    drop(open(&host.path("b")));
    assert_eq!(version() - before, 2, "closing changes nothing");
    drop(witness);
    daemon.stop();
}

#[test]
fn a_handle_follows_its_file_through_renames() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("f"), "one").unwrap();
    let file = open(&host.path("f"));
    fs::rename(host.path("f"), host.path("d/g")).unwrap();
    fs::write(host.path("f"), "stranger").unwrap();
    file.write_at(b"two", 0).unwrap();
    assert_eq!(fs::read(host.path("d/g")).unwrap(), b"two");
    assert_eq!(fs::read(host.path("f")).unwrap(), b"stranger");
    daemon.stop();
}

#[test]
fn the_creating_handle_sees_what_others_write() {
    let host = Host::new();
    let daemon = host.start();
    let creator = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(host.path("f"))
        .unwrap();
    creator.write_at(b"aaaa", 0).unwrap();
    assert_eq!(content(&creator), b"aaaa");
    let other = open(&host.path("f"));
    for round in 0..40u8 {
        let text = [b'a' + round % 26; 4];
        other.write_at(&text, 0).unwrap();
        assert_eq!(content(&creator), text, "same size, same second");
    }
    other.set_len(1).unwrap();
    assert_eq!(content(&creator).len(), 1);
    drop((creator, other));
    daemon.stop();
}

#[test]
fn an_open_directory_that_is_removed_lists_nothing() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("d/f"), "x").unwrap();
    let mut listing = fs::read_dir(host.path("d")).unwrap();
    fs::remove_file(host.path("d/f")).unwrap();
    fs::remove_dir(host.path("d")).unwrap();
    // What the kernel had fetched before may still come; nothing may fail but with ENOENT.
    for entry in &mut listing {
        if let Err(error) = entry {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            break;
        }
    }
    daemon.stop();
}

#[test]
fn a_reader_in_the_middle_stays_in_the_old_file() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), vec![b'o'; 300_000]).unwrap();
    let mut reader = File::open(host.path("f")).unwrap();
    let mut first = vec![0; 100_000];
    reader.read_exact(&mut first).unwrap();
    fs::write(host.path("f.tmp"), vec![b'n'; 300_000]).unwrap();
    fs::rename(host.path("f.tmp"), host.path("f")).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 200_000);
    assert!(rest.iter().all(|byte| *byte == b'o'));
    daemon.stop();
}
