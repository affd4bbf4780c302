//! Out to a directory and back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pmxcfs_api_types::path::is_private;
use pmxcfs_memdb::{Entry, EntryKind, RootState};
use proptest::collection::vec;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value;

use crate::place::{Place, VERSION_ROW, entry, tool};

const ROOT: RootState = RootState {
    version: 1 << 20,
    writer: 1,
    mtime: 77,
};

/// Path, and content of a file.
type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn name() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop::sample::select(vec![
        "priv",
        "nodes",
        "n1",
        "lxc",
        "qemu-server",
        "storage.cfg",
        "100.conf",
    ]);
    let any_bytes = vec(
        any::<u8>().prop_filter("no separator", |byte| *byte != b'/' && *byte != 0),
        1..30,
    );
    prop_oneof![
        usual.prop_map(|name| name.as_bytes().to_vec()),
        any_bytes.prop_filter("a name", |name| !matches!(&name[..], b"." | b"..")),
        "[a-z]{240,255}".prop_map(String::into_bytes),
    ]
}

/// Where the entry goes (an index among the directories so far), its name, content, mtime.
type Step = (prop::sample::Index, Vec<u8>, Option<Vec<u8>>, u32);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let content = prop::option::of(vec(any::<u8>(), 0..3000));
    vec(
        (any::<prop::sample::Index>(), name(), content, any::<u32>()),
        0..25,
    )
}

fn entries(steps: &[Step]) -> Vec<Entry> {
    let mut directories = vec![(0_u64, Vec::new())];
    let mut taken = BTreeMap::new();
    let mut guests = Vec::new();
    let mut entries = Vec::new();
    for (place, name, content, mtime) in steps {
        let (parent, path) = directories[place.index(directories.len())].clone();
        let path = [&path[..], b"/", name].concat();
        // A second config of a guest, and a guest directory that is a file, are refused at import: another test.
        let is_guest_directory = matches!(&name[..], b"lxc" | b"qemu-server" | b"openvz");
        let is_generated = parent == 0 && (is_guest_directory || name == b"local");
        let is_second_guest = name.ends_with(b".conf") && guests.contains(name);
        if is_generated || is_second_guest || taken.insert(path.clone(), ()).is_some() {
            continue;
        }
        guests.push(name.clone());
        let inode = 2 + entries.len() as u64;
        let kind = if content.is_some() && !is_guest_directory {
            EntryKind::File
        } else {
            directories.push((inode, path));
            EntryKind::Directory
        };
        let data = content.as_deref().filter(|_| kind == EntryKind::File);
        let mut made = entry(inode, parent, kind, name, data.unwrap_or_default());
        made.mtime = *mtime;
        entries.push(made);
    }
    entries
}

/// What survives a round trip: everything but numbers.
fn essence(dump: &Value) -> Vec<Value> {
    let entries = dump["entries"].as_array().unwrap().iter().cloned();
    entries
        .map(|mut entry| {
            for field in ["inode", "parent", "version", "writer"] {
                entry.as_object_mut().unwrap().remove(field);
            }
            entry
        })
        .collect()
}

fn walk(directory: &Path, prefix: &[u8], model: &mut Model) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_vec();
        let path = if prefix.is_empty() {
            name
        } else {
            [prefix, b"/", &name].concat()
        };
        let is_directory = entry.file_type().unwrap().is_dir();
        let content = (!is_directory).then(|| fs::read(entry.path()).unwrap());
        model.insert(path.clone(), content);
        if is_directory {
            walk(&entry.path(), &path, model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_comes_back_as_it_was(steps in steps()) {
        let entries = entries(&steps);
        let place = Place::with_entries(ROOT, &entries);
        let target = place.path("target");
        place.tool("export", &[&target]).expect(0);

        let dump = place.dump();
        let shown = dump["entries"].as_array().unwrap();
        prop_assert_eq!(shown.len(), entries.len());
        let mut model = Model::new();
        walk(&target, b"", &mut model);
        prop_assert_eq!(model.len(), entries.len());
        for (path, content) in &model {
            let file = target.join(OsStr::from_bytes(path));
            let metadata = fs::symlink_metadata(&file).unwrap();
            let mode = match (content.is_some(), is_private(path)) {
                (true, false) => 0o640,
                (true, true) => 0o600,
                (false, false) => 0o755,
                (false, true) => 0o700,
            };
            prop_assert_eq!(metadata.permissions().mode() & 0o7777, mode);
            let name = file.file_name().unwrap().as_bytes();
            let found = entries.iter().any(|entry| {
                entry.name == name
                    && i64::from(entry.mtime) == metadata.mtime()
                    && content.as_ref().is_none_or(|content| entry.data == content)
                    && content.is_none() == entry.is_directory()
            });
            prop_assert!(found, "{}", file.display());
        }
        prop_assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o700);

        let other = Place::new();
        other.tool("import", &[&target]).expect(0);
        prop_assert_eq!(essence(&other.dump()), essence(&dump));
        other.tool::<&str>("check", &[]).expect(0);
    }
}

#[test]
fn an_import_numbers_from_where_it_is_told() {
    let place = Place::new();
    fs::create_dir_all(place.path("source/d")).unwrap();
    fs::write(place.path("source/d/x"), "1").unwrap();
    fs::write(place.path("source/y"), "2").unwrap();
    let source = place.path("source");
    let source = source.to_str().unwrap();
    place.tool("import", &[source]).expect(0);
    assert_eq!(place.dump()["root"]["version"], 4);

    place.tool("import", &[source]).expect(2).says("--replace");
    place
        .tool("import", &["--replace", source])
        .expect(0)
        .says("--base-version 4");
    place
        .tool("import", &["--replace", "--base-version", "5000", source])
        .expect(0);
    let dump = place.dump();
    assert_eq!(dump["root"]["version"], 5003);
    let inodes: Vec<u64> = dump["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["inode"].as_u64().unwrap())
        .collect();
    assert_eq!(inodes.iter().min(), Some(&5001));
    let copies = place
        .files()
        .into_iter()
        .filter(|name| name.contains(".before-import-"));
    assert_eq!(copies.count(), 2);
    for value in ["0", "9223372036854775807", "x"] {
        place
            .tool("import", &["--base-version", value, source])
            .expect(2);
    }
}

#[test]
fn everything_that_cannot_be_stored_is_told_before_anything_is_written() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(source.join("nodes/a/lxc")).unwrap();
    fs::create_dir_all(source.join("nodes/b")).unwrap();
    symlink("nodes/a", source.join("link")).unwrap();
    fs::write(source.join("large"), vec![0; 1024 * 1024 + 1]).unwrap();
    nix::unistd::mkfifo(&source.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A copy of a mount has what the mount makes itself.
    fs::write(source.join(".version"), "{}").unwrap();
    symlink("nodes/a", source.join("local")).unwrap();
    let import = |options: &[&str]| {
        let mut arguments = options.to_vec();
        arguments.push(source.to_str().unwrap());
        place.tool("import", &arguments)
    };
    import(&[])
        .expect(2)
        .says("link: it is a symbolic link (--skip-special leaves it out)")
        .says("fifo: it is neither a file nor a directory")
        .says("large: it is larger than 1048576 bytes")
        .says("nothing was written");
    assert_eq!(place.files(), <[&str; 0]>::default());
    fs::remove_file(source.join("large")).unwrap();
    import(&["--skip-special"])
        .expect(0)
        .says("link: left out")
        .says(".version: left out, the mount makes that itself");
    let names: Vec<Value> = place.dump()["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["path"].clone())
        .collect();
    assert_eq!(names, ["nodes", "nodes/a", "nodes/a/lxc", "nodes/b"]);

    fs::write(source.join("nodes/b/qemu-server"), "").unwrap();
    import(&["--skip-special", "--replace"])
        .expect(2)
        .says("'nodes/b/qemu-server' should be a directory");
    fs::remove_file(source.join("nodes/b/qemu-server")).unwrap();
    fs::create_dir(source.join("nodes/b/qemu-server")).unwrap();
    for path in ["nodes/a/lxc/100.conf", "nodes/b/qemu-server/100.conf"] {
        fs::write(source.join(path), "").unwrap();
    }
    import(&["--skip-special", "--replace"])
        .expect(2)
        .says("guest 100 has another config");
    assert_eq!(place.files(), ["config.db"]);
}

#[test]
fn the_filesystems_limits_hold_for_an_import() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    for index in 0..129 {
        let file = fs::File::create(source.join(index.to_string())).unwrap();
        file.set_len(1024 * 1024).unwrap();
    }
    place
        .tool("import", &[&source])
        .expect(2)
        .says("more than 134217728 bytes");
    fs::remove_file(source.join("0")).unwrap();
    place.tool("import", &[&source]).expect(0);
}

#[test]
fn what_the_target_cannot_hold_is_told_before_anything_is_written() {
    let long = [b'x'; 300];
    let entries = [
        entry(2, 0, EntryKind::File, &long, b"1"),
        entry(3, 0, EntryKind::File, b"good", b"2"),
    ];
    let place = Place::with_entries(ROOT, &entries);
    let target = place.path("target");
    place
        .tool("export", &[&target])
        .expect(2)
        .says("the name has 300 bytes, the filesystem of")
        .says("takes 255")
        .says("nothing was written");
    assert!(!target.exists());

    for (rows, text) in [
        ("(2, 0, 2, 0, 0, 8, 'a/b', NULL)", "no path leads to it"),
        ("(2, 9, 2, 0, 0, 8, 'a', NULL)", "repair it first"),
    ] {
        let place = Place::with_rows(&[VERSION_ROW, rows]);
        place
            .tool("export", &[place.path("target")])
            .expect(2)
            .says(text);
        assert!(!place.path("target").exists());
    }
}

#[test]
fn an_export_replaces_nothing() {
    let place = Place::with_entries(ROOT, &[entry(2, 0, EntryKind::File, b"a", b"1")]);
    let target = place.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "").unwrap();
    place
        .tool("export", &[&target])
        .expect(2)
        .says("is not empty");
    fs::remove_file(target.join("mine")).unwrap();
    place.tool("export", &[&target]).expect(0);
    assert_eq!(fs::read(target.join("a")).unwrap(), b"1");
    place
        .tool("export", &[place.path("missing/target")])
        .expect(2)
        .says("cannot find the directory");
    fs::write(place.path("file"), "").unwrap();
    place.tool("export", &[place.path("file")]).expect(2);
}

#[test]
fn a_replaced_database_does_not_leave_its_log_to_the_new_one() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'a', 'old')"]);
    let connection = Connection::open(place.database()).unwrap();
    let _mode: String = connection
        .query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))
        .unwrap();
    connection
        .execute_batch("UPDATE tree SET data='in the log' WHERE inode=2")
        .unwrap();
    let killed = Place::new();
    for name in ["config.db", "config.db-wal"] {
        fs::copy(
            place.path("state").join(name),
            killed.path("state").join(name),
        )
        .unwrap();
    }
    fs::create_dir(killed.path("source")).unwrap();
    fs::write(killed.path("source/b"), "new").unwrap();
    killed
        .tool(
            "import",
            &["--replace", killed.path("source").to_str().unwrap()],
        )
        .expect(0);
    let dump = killed.dump();
    let entries = dump["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["content"], "new");
    let copy = killed
        .files()
        .into_iter()
        .find(|name| name.ends_with('Z'))
        .unwrap();
    tool([
        OsStr::new("dump"),
        "--contents".as_ref(),
        "--db".as_ref(),
        killed.path("state").join(copy).as_ref(),
    ])
    .expect(0)
    .says("in the log");
}
