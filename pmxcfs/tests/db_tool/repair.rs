//! Each fault: told by `check`, mended by `repair`, and gone afterwards.

use std::fs;

use pmxcfs_memdb::store::{Store, StoreConfig};
use pmxcfs_memdb::{Rules, Tree};

use crate::place::{Place, VERSION_ROW, tool};

/// Name, rows, status of `check`, a part of what it says, path and content of something that must be there afterwards.
type Case<'a> = (&'a str, &'a [&'a str], i32, &'a str, (&'a str, &'a str));

#[test]
fn every_fault_is_told_mended_and_gone() {
    let table: [Case<'_>; 26] = [
        (
            "duplicate names: the later change stays",
            &[
                VERSION_ROW,
                "(2, 0, 20, 0, 0, 8, 'a', 'late')",
                "(3, 0, 3, 0, 0, 8, 'a', 'early')",
            ],
            3,
            "has the same name",
            ("priv/recovered-3-a", "early"),
        ),
        (
            "what a refused rename of a C daemon leaves: an empty directory's row, and a new one of that name",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 4, 'B', NULL)",
                "(9, 0, 9, 0, 0, 4, 'B', NULL)",
                "(10, 9, 10, 0, 0, 8, 'x', 'kept')",
            ],
            3,
            "has the same name",
            ("B/x", "kept"),
        ),
        (
            "orphan",
            &[VERSION_ROW, "(3, 2, 3, 0, 0, 8, 'shadow.cfg', 'secret')"],
            3,
            "does not exist",
            ("priv/recovered-3-shadow.cfg", "secret"),
        ),
        (
            "orphaned directory, with what is in it",
            &[
                VERSION_ROW,
                "(3, 2, 3, 0, 0, 4, 'd', NULL)",
                "(4, 3, 4, 0, 0, 8, 'x', 'kept')",
            ],
            3,
            "does not exist",
            ("priv/recovered-3-d/x", "kept"),
        ),
        (
            "below a file with a smaller inode",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 8, 'a', 'A')",
                "(3, 2, 3, 0, 0, 8, 'b', 'B')",
            ],
            3,
            "is a regular file",
            ("priv/recovered-3-b", "B"),
        ),
        (
            "below a file with a larger inode",
            &[
                VERSION_ROW,
                "(2, 3, 2, 0, 0, 8, 'b', 'B')",
                "(3, 0, 3, 0, 0, 8, 'a', 'A')",
            ],
            1,
            "cannot be reached",
            ("priv/recovered-2-b", "B"),
        ),
        (
            "directory in itself",
            &[
                VERSION_ROW,
                "(2, 2, 2, 0, 0, 4, 'd', NULL)",
                "(3, 2, 3, 0, 0, 8, 'x', 'kept')",
            ],
            1,
            "inside itself",
            ("priv/recovered-2-d/x", "kept"),
        ),
        (
            "directories in each other",
            &[
                VERSION_ROW,
                "(2, 3, 2, 0, 0, 4, 'a', NULL)",
                "(3, 2, 3, 0, 0, 4, 'b', NULL)",
                "(4, 3, 4, 0, 0, 8, 'x', 'kept')",
            ],
            1,
            "inside itself",
            ("priv/recovered-2-a/b/x", "kept"),
        ),
        (
            "no version row",
            &["(7, 0, 9, 0, 0, 8, 'a', 'A')"],
            1,
            "version row is missing",
            ("a", "A"),
        ),
        (
            "version row too low",
            &[
                "(0, 0, 3, 1, 5, 8, '__version__', NULL)",
                "(7, 0, 7, 0, 0, 8, 'a', 'A')",
            ],
            1,
            "lower than the rows' 7",
            ("a", "A"),
        ),
        (
            "no version left",
            &[
                "(0, 0, -1, 1, 5, 8, '__version__', NULL)",
                "(7, 0, 7, 0, 0, 8, 'a', 'A')",
            ],
            3,
            "largest possible number",
            ("a", "A"),
        ),
        (
            "no inode left",
            &[
                VERSION_ROW,
                "(9223372036854775807, 0, 7, 0, 0, 8, 'a', 'A')",
            ],
            3,
            "largest possible number",
            ("a", "A"),
        ),
        (
            "name with a slash",
            &[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'a/b', 'A')"],
            1,
            "contains a slash",
            ("priv/recovered-2-a_b", "A"),
        ),
        (
            "name with NUL",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 8, CAST(x'610062' AS TEXT), 'A')",
            ],
            1,
            "NUL",
            ("a", "A"),
        ),
        (
            "name that is taken once it is cut at its NUL",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 8, CAST(x'610062' AS TEXT), 'A')",
                "(3, 0, 3, 0, 0, 8, 'a', 'B')",
            ],
            3,
            "NUL",
            ("priv/recovered-2-a", "A"),
        ),
        (
            "no name",
            &[VERSION_ROW, "(2, 0, 2, 0, 0, 8, NULL, 'A')"],
            3,
            "no name",
            ("priv/recovered-2", "A"),
        ),
        (
            "name of a directory link",
            &[VERSION_ROW, "(2, 0, 2, 0, 0, 8, '..', 'A')"],
            1,
            "no program can open",
            ("priv/recovered-2", "A"),
        ),
        (
            "unknown type with content",
            &[VERSION_ROW, "(2, 0, 2, 0, 0, 5, 'a', 'A')"],
            3,
            "type 5",
            ("a", "A"),
        ),
        (
            "unknown type that holds something",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 5, 'd', NULL)",
                "(3, 2, 3, 0, 0, 8, 'x', 'kept')",
            ],
            3,
            "type 5",
            ("d/x", "kept"),
        ),
        (
            "directory with data and nothing in it",
            &[VERSION_ROW, "(2, 0, 2, 0, 0, 4, 'a', 'A')"],
            3,
            "bytes of data",
            ("a", "A"),
        ),
        (
            "directory with data and something in it",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 4, 'd', 'A')",
                "(3, 2, 3, 0, 0, 8, 'x', 'kept')",
            ],
            3,
            "bytes of data",
            ("priv/recovered-2-d", "A"),
        ),
        (
            "numbers that are none",
            &[VERSION_ROW, "(2, 'no', 'no', 'no', 'no', 'no', 'a', 'A')"],
            3,
            "not an integer",
            ("priv/recovered-2-a", "A"),
        ),
        (
            "version row with another name, which may be somebody's content",
            &["(0, 0, 5, 0, 0, 8, 'x', 'A')"],
            3,
            "reserved for the row named __version__",
            ("priv/recovered-0-x", "A"),
        ),
        (
            "version row of a wrong type and with data",
            &[
                "(0, 0, 5, 0, 0, 4, '__version__', 'A')",
                "(2, 0, 2, 0, 0, 8, 'a', 'B')",
            ],
            3,
            "version row has data",
            ("priv/recovered-0-data", "A"),
        ),
        (
            "guest with two configs",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 4, 'nodes', NULL)",
                "(3, 2, 3, 0, 0, 4, 'a', NULL)",
                "(4, 3, 4, 0, 0, 4, 'lxc', NULL)",
                "(5, 4, 5, 0, 0, 8, '100.conf', 'old')",
                "(6, 2, 6, 0, 0, 4, 'b', NULL)",
                "(7, 6, 7, 0, 0, 4, 'lxc', NULL)",
                "(8, 7, 8, 0, 0, 8, '100.conf', 'new')",
            ],
            3,
            "guest 100 has another config",
            ("priv/recovered-5-100.conf", "old"),
        ),
        (
            "guest directory that is a file",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 4, 'nodes', NULL)",
                "(3, 2, 3, 0, 0, 4, 'a', NULL)",
                "(4, 3, 4, 0, 0, 8, 'lxc', 'A')",
            ],
            1,
            "should be a directory",
            ("priv/recovered-4-lxc", "A"),
        ),
    ];
    for (name, rows, status, text, (path, content)) in table {
        let place = Place::with_rows(rows);
        let answer = place.tool::<&str>("check", &[]);
        assert_eq!(answer.status, status, "{name}: {answer:#?}");
        assert!(answer.out.contains(text), "{name}: {answer:#?}");

        let before = fs::read(place.database()).unwrap();
        let planned = place.tool::<&str>("repair", &[]).expect(1);
        assert!(
            planned.out.contains("nothing was changed"),
            "{name}: {planned:#?}"
        );
        assert_eq!(fs::read(place.database()).unwrap(), before, "{name}");
        assert_eq!(place.files(), ["config.db"], "{name}");

        let done = place.tool("repair", &["--apply"]).expect(0);
        let what = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|line| !line.contains("nothing was changed"));
            let lines = lines.filter(|line| !line.contains("is kept as"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(what(&done.out), what(&planned.out), "{name}");
        place.tool::<&str>("check", &[]).expect(0).says("clean");
        place
            .tool::<&str>("repair", &[])
            .expect(0)
            .says("nothing to repair");

        let [_, copy] = &place.files()[..] else {
            panic!("{name}: {:?}", place.files());
        };
        assert!(
            copy.starts_with("config.db.before-repair-"),
            "{name}: {copy}"
        );
        assert_eq!(
            fs::read(place.path("state").join(copy)).unwrap(),
            before,
            "{name}"
        );

        let config = StoreConfig::new(place.database(), place.run_dir());
        let (_store, loaded) = Store::open(config).expect(name);
        assert_eq!(loaded.warnings, [], "{name}");
        let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Local, 0).expect(name);
        assert_eq!(tree.warnings(), [], "{name}");
        let found = tree
            .lookup(path.as_bytes())
            .unwrap_or_else(|| panic!("{name}: no {path}"));
        assert_eq!(found.data, content.as_bytes(), "{name}");
    }
}

#[test]
fn what_cannot_be_mended_without_loss_is_left_and_told() {
    let place = Place::with_rows(&[
        VERSION_ROW,
        "(2, 0, 2, 0, 0, 8, 'big', zeroblob(2097152))",
        "(3, 9, 3, 0, 0, 8, 'lost', 'x')",
    ]);
    place
        .tool("repair", &["--apply"])
        .expect(1)
        .says("left as it is: inode 2")
        .says("moved to priv/recovered-3-lost");
    place.tool::<&str>("check", &[]).expect(1);
    assert_eq!(place.dump()["entries"][0]["size"], 2_097_152);
}

#[test]
fn each_repair_keeps_a_copy_of_its_own() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 9, 2, 0, 0, 8, 'a', 'x')"]);
    for round in 0..3 {
        let connection = rusqlite::Connection::open(place.database()).unwrap();
        connection
            .execute_batch("UPDATE tree SET parent=9 WHERE inode=2")
            .unwrap();
        drop(connection);
        place.tool("repair", &["--apply"]).expect(0);
        assert_eq!(place.files().len(), 2 + round, "{:?}", place.files());
    }
}

#[test]
fn what_sqlites_log_holds_is_in_the_copy_too() {
    let place = Place::with_rows(&[VERSION_ROW]);
    let connection = rusqlite::Connection::open(place.database()).unwrap();
    let mode: String = connection
        .query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    connection
        .execute_batch("INSERT INTO tree VALUES (2, 9, 2, 0, 0, 8, 'a', 'in the log')")
        .unwrap();
    // The process that had it open was killed.
    let other = Place::new();
    for name in ["config.db", "config.db-wal"] {
        fs::copy(
            place.path("state").join(name),
            other.path("state").join(name),
        )
        .unwrap();
    }
    other
        .tool::<&str>("check", &[])
        .expect(3)
        .says("does not exist");
    other.tool("repair", &["--apply"]).expect(0);
    other.tool::<&str>("check", &[]).expect(0);
    let files = other.files();
    assert_eq!(files.len(), 3, "{files:?}");
    let copy = other.path("state").join(&files[1]);
    tool([
        std::ffi::OsStr::new("dump"),
        "--contents".as_ref(),
        "--db".as_ref(),
        copy.as_ref(),
    ])
    .expect(0)
    .says("in the log");
}
