//! `create`, also under the name by which the installer calls it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::Access;
use pmxcfs_memdb::store::examine;

use crate::place::{PROGRAM, Place, VERSION_ROW, answer, tool};

/// Calls the tool by the installer's name, under a umask that hides nothing.
fn installer(place: &Place, arguments: &[&str]) -> crate::place::Answer {
    let link = place.path("create_pmxcfs_db");
    if !link.exists() {
        symlink(PROGRAM, &link).unwrap();
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(link)
        .args(arguments);
    answer(command.current_dir(place.path("")))
}

fn source(place: &Place) {
    let source = place.path("source");
    fs::create_dir_all(source.join("directory")).unwrap();
    fs::write(source.join("directory/inside"), "not taken").unwrap();
    fs::write(source.join("storage.cfg"), "dir: local\n").unwrap();
    fs::write(source.join(".hidden"), "").unwrap();
    fs::write(source.join(std::ffi::OsStr::from_bytes(b"\xff")), "bytes").unwrap();
    symlink("storage.cfg", source.join("link")).unwrap();
    nix::unistd::mkfifo(&source.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn regular_files_become_files_of_the_root_directory_as_the_c_tool_makes_them() {
    let place = Place::new();
    source(&place);
    let made = installer(&place, &["source", "state/config.db"]).expect(0);
    assert_eq!((made.out.as_str(), made.notes.as_str()), ("", ""));
    assert_eq!(place.files(), ["config.db"]);
    let mode = fs::metadata(place.database()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let examined = examine(&place.database(), Access::Idle, None).unwrap();
    assert_eq!(examined.findings, []);
    assert_eq!(examined.root.version, 7);
    let numbers: Vec<_> = examined
        .entries
        .iter()
        .map(|entry| (entry.inode, entry.version, entry.parent, entry.writer))
        .collect();
    assert_eq!(numbers, [(2, 3, 0, 0), (4, 5, 0, 0), (6, 7, 0, 0)]);
    let mut files: Vec<(&[u8], &[u8])> = examined
        .entries
        .iter()
        .map(|entry| {
            assert_eq!(entry.kind, EntryKind::File);
            assert_eq!(entry.mtime, examined.root.mtime, "one time for all");
            (&entry.name[..], &entry.data[..])
        })
        .collect();
    files.sort_unstable();
    assert_eq!(
        files,
        [
            (&b".hidden"[..], &b""[..]),
            (b"storage.cfg", b"dir: local\n"),
            (b"\xff", b"bytes"),
        ]
    );
}

#[test]
fn an_existing_database_is_added_to() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 1, 7, 8, 'a', 'A')"]);
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/b"), "B").unwrap();
    installer(&place, &["source", "state/config.db"]).expect(0);
    let dump = place.dump();
    assert_eq!(dump["root"]["version"], 52);
    assert_eq!(dump["entries"][0]["content"], "A");
    assert_eq!(dump["entries"][0]["mtime"], 7);
    assert_eq!(dump["entries"][1]["content"], "B");
    assert_eq!(dump["entries"][1]["inode"], 51);

    // The same again meets its own names, and changes nothing.
    let before = fs::read(place.database()).unwrap();
    fs::write(place.path("source/c"), "C").unwrap();
    installer(&place, &["source", "state/config.db"])
        .expect(255)
        .says("has a 'b' already");
    assert_eq!(fs::read(place.database()).unwrap(), before);
    assert_eq!(place.files(), ["config.db"]);
}

#[test]
fn failures_have_the_c_tools_status_and_leave_nothing() {
    let place = Place::new();
    let usage = "usage: create_pmxcfs_db DIR FILE";
    for arguments in [
        &[][..],
        &["source"],
        &["source", "state/config.db", "more"],
        &["--help"],
    ] {
        installer(&place, arguments).expect(255).says(usage);
    }
    installer(&place, &["missing", "state/config.db"])
        .expect(255)
        .says("cannot open the directory missing");
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/fits"), "x").unwrap();
    fs::write(place.path("source/large"), vec![0; 1024 * 1024 + 1]).unwrap();
    installer(&place, &["source", "state/config.db"])
        .expect(255)
        .says("larger than 1048576 bytes");
    installer(&place, &["source", "nowhere/config.db"])
        .expect(255)
        .says("cannot find the directory");
    assert_eq!(place.files(), <[&str; 0]>::default());

    fs::write(place.path("source/large"), vec![0; 1024 * 1024]).unwrap();
    installer(&place, &["source", "state/config.db"]).expect(0);
    tool(["create", "source"]).expect(255);
    tool(["create", "--nonsense"]).expect(255);
}

#[test]
fn an_empty_directory_makes_an_empty_database() {
    let place = Place::new();
    fs::create_dir(place.path("source")).unwrap();
    installer(&place, &["source", "state/config.db"]).expect(0);
    let dump = place.dump();
    assert_eq!(dump["root"]["version"], 1);
    assert_eq!(dump["entries"].as_array().unwrap().len(), 0);
}

#[test]
fn what_an_interrupted_run_left_does_not_get_into_the_next_database() {
    let place = Place::new();
    fs::create_dir(place.path("source")).unwrap();
    for name in [
        "config.db.new-1",
        "config.db.new-1-wal",
        "config.db.new-99-shm",
    ] {
        fs::write(place.path("state").join(name), "left over").unwrap();
    }
    fs::write(place.path("state/config.db.new-1.txt"), "somebody's").unwrap();
    installer(&place, &["source", "state/config.db"]).expect(0);
    assert_eq!(place.files(), ["config.db", "config.db.new-1.txt"]);
}
