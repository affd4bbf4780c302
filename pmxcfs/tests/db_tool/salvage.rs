//! `salvage`: files damaged at random give at least what `sqlite3 .dump` gives, and never a crash.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use pmxcfs_memdb::store::{Store, StoreConfig, Warning};
use pmxcfs_memdb::{EntryKind, RootState};
use rusqlite::Connection;

use crate::place::{Answer, Place, entry, tool};

const PAGE: usize = 4096;

/// A small generator: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Inodes and contents of the rows, without the version row.
type Rows = BTreeMap<i64, Vec<u8>>;

fn rows(connection: &Connection) -> Rows {
    let Ok(mut statement) = connection.prepare(
        "SELECT inode, CAST(data AS BLOB) FROM tree WHERE inode<>0 AND typeof(inode)='integer'",
    ) else {
        return Rows::new();
    };
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, Option<_>>(1)?.unwrap_or_default()))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Directories, and files of all sizes in them, some removed again so that there are free pages; in SQLite's log as well.
fn original() -> Place {
    let mut entries = vec![entry(2, 0, EntryKind::Directory, b"nodes", b"")];
    for node in 0..4 {
        let name = format!("node{node}");
        entries.push(entry(
            3 + node,
            2,
            EntryKind::Directory,
            name.as_bytes(),
            b"",
        ));
    }
    let mut random = Random(7);
    for inode in 10..150 {
        let size = random.below(20) * random.below(1500);
        let content: Vec<u8> = (0..size)
            .map(|_| b"0123456789abcdef"[random.below(16)])
            .collect();
        let name = format!("{inode}.conf");
        let parent = 3 + inode % 4;
        entries.push(entry(
            inode,
            parent,
            EntryKind::File,
            name.as_bytes(),
            &content,
        ));
    }
    let root = RootState {
        version: 1000,
        writer: 1,
        mtime: 5,
    };
    let place = Place::with_entries(root, &entries);
    let connection = Connection::open(place.database()).unwrap();
    connection
        .execute_batch("DELETE FROM tree WHERE inode%10=3 AND type=8")
        .unwrap();
    let _busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    connection
        .execute_batch(
            "UPDATE tree SET data=randomblob(9000), version=1001 WHERE inode%20=6 AND type=8; \
             UPDATE tree SET version=1001 WHERE inode=0",
        )
        .unwrap();
    // As after a kill: the log stays.
    let killed = Place::new();
    for name in ["config.db", "config.db-wal"] {
        fs::copy(
            place.path("state").join(name),
            killed.path("state").join(name),
        )
        .unwrap();
    }
    killed
}

fn damage(place: &Place, random: &mut Random) -> String {
    let path = place.database();
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / PAGE;
    let what = match random.below(5) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            format!("bit of byte {at}")
        }
        // Most of what matters is at the beginning of pages.
        1 => {
            let at = random.below(pages) * PAGE + random.below(120);
            bytes[at] = u8::try_from(random.below(256)).unwrap();
            format!("byte {at}")
        }
        2 => {
            let page = random.below(pages);
            bytes[page * PAGE..(page + 1) * PAGE].fill(0);
            format!("page {} zeroed", page + 1)
        }
        3 => {
            bytes.truncate(random.below(bytes.len()));
            format!("cut to {} bytes", bytes.len())
        }
        _ => {
            let log = place.path("state/config.db-wal");
            let length = fs::metadata(&log).unwrap().len();
            let kept = random.below(usize::try_from(length).unwrap());
            fs::write(&log, &fs::read(&log).unwrap()[..kept]).unwrap();
            format!("log cut to {kept} bytes")
        }
    };
    if random.below(3) == 0 {
        fs::remove_file(place.path("state/config.db-wal")).unwrap();
    }
    fs::write(path, bytes).unwrap();
    what
}

/// What the platform's tool reads of a copy of its own.
fn dumped(place: &Place) -> Rows {
    let copy = copy_of(place);
    let output = Command::new("sqlite3")
        .arg(copy.database())
        .arg(".dump")
        .output()
        .expect("sqlite3 can be started");
    let text = String::from_utf8_lossy(&output.stdout).replace("ROLLBACK;", "COMMIT;");
    let connection = Connection::open_in_memory().unwrap();
    for statement in text.split_inclusive(";\n") {
        // A damaged row may break a rule of the table.
        let _refused = connection.execute_batch(statement);
    }
    rows(&connection)
}

fn copy_of(place: &Place) -> Place {
    let copy = Place::with_copy(place);
    let log = Path::new("state/config.db-wal");
    if place.path(log).exists() {
        fs::copy(place.path(log), copy.path(log)).unwrap();
    }
    copy
}

fn salvage(place: &Place) -> Answer {
    let new = place.path("new.db");
    tool([
        "salvage".as_ref(),
        place.database().as_os_str(),
        new.as_os_str(),
    ])
}

/// Whether this is a content that SQLite reads: behind the end of a file it reads zeros.
fn is_content(read: &[u8], found: &[u8]) -> bool {
    let is_cut = |rest: &[u8]| rest.iter().all(|byte| *byte == 0);
    !found.is_empty() && read.strip_prefix(found).is_some_and(is_cut)
}

#[test]
fn files_damaged_at_random_give_all_that_can_be_read() {
    let original = original();
    let (mut more, mut whole) = (0, 0);
    for seed in 1..=200 {
        let place = copy_of(&original);
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let what = format!("seed {seed}: {}", damage(&place, &mut random));
        let expected = dumped(&place);
        let before = fs::read(place.database()).unwrap();
        let answer = salvage(&place);
        assert_eq!(fs::read(place.database()).unwrap(), before, "{what}");
        if answer.status == 2 && expected.is_empty() {
            continue;
        }
        assert!(matches!(answer.status, 0 | 1), "{what}: {answer:#?}");
        whole += usize::from(answer.status == 0);
        let new = place.path("new.db");
        let check = tool(["check".as_ref(), "--db".as_ref(), new.as_os_str()]);
        assert_eq!(check.status, 0, "{what}: {check:#?}");
        let found = rows(&Connection::open(new).unwrap());
        for (inode, content) in &expected {
            let is_there = found.get(inode).is_some_and(|found| found == content)
                || found.values().any(|found| is_content(content, found));
            assert!(is_there, "{what}: inode {inode} is lost: {answer:#?}");
        }
        more += usize::from(found.len() > expected.len());
    }
    assert!(more > 10, "more than sqlite3 gives: {more} files");
    assert!(whole > 10, "without any loss: {whole} files");
}

#[test]
fn what_is_lost_is_told_by_path() {
    let original = original();
    let place = copy_of(&original);
    fs::remove_file(place.path("state/config.db-wal")).unwrap();
    let connection = Connection::open(place.database()).unwrap();
    let (inode, content): (i64, Vec<u8>) = connection
        .query_row(
            "SELECT inode, data FROM tree WHERE length(data)>9000 AND parent=4 LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(connection);
    let intact = fs::read(place.database()).unwrap();
    let path = format!("nodes/node1/{inode}.conf (inode {inode})");
    // A page with a part of the content, found by that; the last one leads to no other.
    for (end, text) in [
        (
            content.len() - 4100,
            "bytes are lost; what is left is priv/recovered-",
        ),
        (content.len(), "holds only zeros"),
    ] {
        let part = &content[end - 40..end];
        let found = intact.windows(40).position(|window| window == part);
        let page = found.unwrap() / PAGE * PAGE;
        let mut bytes = intact.clone();
        bytes[page..page + PAGE].fill(0);
        fs::write(place.database(), bytes).unwrap();
        let _absent = fs::remove_file(place.path("new.db"));
        let answer = salvage(&place).expect(1).says("Compare with a backup");
        let mut lines = answer.out.lines();
        let is_told = lines.any(|line| line.contains(&path) && line.contains(text));
        assert!(is_told, "{text}: {answer:#?}");
    }
    salvage(&place).expect(2).says("exists");
}

#[test]
fn what_only_the_crash_journal_holds_is_brought_in() {
    let entries: Vec<_> = (2..60)
        .map(|inode| {
            let name = format!("f{inode}");
            entry(inode, 0, EntryKind::File, name.as_bytes(), &[b'x'; 3000])
        })
        .collect();
    let root = RootState {
        version: 100,
        writer: 1,
        mtime: 5,
    };
    let place = Place::with_entries(root, &entries);
    place.leave_journal(&[("new", "acknowledged")]);
    let mut bytes = fs::read(place.database()).unwrap();
    bytes[10 * PAGE..11 * PAGE].fill(0);
    fs::write(place.database(), bytes).unwrap();
    // As on a node: the journal is found by where the database is.
    let root = place.path("root");
    for (from, to) in [
        (place.path("state"), root.join("var/lib/pve-cluster")),
        (place.run_dir(), root.join("run/pve-cluster")),
    ] {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(from, to).unwrap();
    }
    let new = place.path("new.db");
    let database = root.join("var/lib/pve-cluster/config.db");
    tool(["salvage".as_ref(), database.as_os_str(), new.as_os_str()])
        .expect(1)
        .says("page 11 cannot be read")
        .says("1 operation of the crash journal brought in");
    let found = rows(&Connection::open(new).unwrap());
    assert!(found.values().any(|content| content == b"acknowledged"));
}

#[test]
fn a_file_with_nothing_in_it_gives_no_database() {
    let place = Place::new();
    fs::write(place.database(), vec![0; 50_000]).unwrap();
    salvage(&place).expect(2).says("nothing can be read of");
    assert!(!place.path("new.db").exists());
    // What a tool without output leaves is not taken for a database of this program.
    for content in [&b""[..], b"SQLite format 3\0"] {
        fs::write(place.database(), content).unwrap();
        let check = place.tool::<&str>("check", &[]);
        assert_ne!(check.status, 0, "{check:#?}");
        assert!(!check.out.contains("clean"), "{check:#?}");
    }
}

#[test]
fn a_restored_file_beside_an_old_log_is_told_before_anything_is_applied() {
    let original = original();
    let restored = copy_of(&original);
    // The log is of an hour ago, the file of now.
    let log = fs::File::options()
        .write(true)
        .open(restored.path("state/config.db-wal"))
        .unwrap();
    let file = fs::metadata(restored.database()).unwrap();
    let hour_ago = file.modified().unwrap() - std::time::Duration::from_secs(3600);
    log.set_modified(hour_ago).unwrap();
    let other = copy_of(&original);
    for place in [&restored, &other] {
        let before = fs::read(place.database()).unwrap();
        let check = place.tool::<&str>("check", &[]);
        let is_told = check.out.contains("it belongs to another state")
            && check.out.contains("config.db-wal")
            && check.status == 1;
        assert_eq!(
            is_told,
            std::ptr::eq(place, &raw const restored),
            "{check:#?}"
        );
        assert_eq!(fs::read(place.database()).unwrap(), before);
        let config = StoreConfig::new(place.database(), place.run_dir());
        let (_store, loaded) = Store::open(config).unwrap();
        let mut warnings = loaded.warnings.iter();
        let is_told = warnings.any(|warning| matches!(warning, Warning::ForeignLog(_)));
        assert_eq!(is_told, std::ptr::eq(place, &raw const restored));
    }
}
