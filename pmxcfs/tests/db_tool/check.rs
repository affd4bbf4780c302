//! What `check` says, and the statuses that scripts go by.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use crate::place::{Place, VERSION_ROW, recordings, tool};

#[test]
fn databases_of_c_daemons_are_clean_and_nothing_is_left_beside_them() {
    for (database, expected) in recordings() {
        let place = Place::new();
        fs::copy(&database, place.database()).unwrap();
        let before = fs::read(place.database()).unwrap();
        let version = format!("version {},", expected["root"]["version"]);
        place
            .tool::<&str>("check", &[])
            .expect(0)
            .says(match expected["root"]["version"].as_u64() {
                Some(1) => "result: empty, as a first start makes it",
                _ => "result: clean",
            })
            .says(&version);
        assert_eq!(place.files(), ["config.db"], "{}", database.display());
        assert_eq!(fs::read(place.database()).unwrap(), before);
    }
}

#[test]
fn status_tells_whether_the_daemon_would_start() {
    let good = "(2, 0, 2, 0, 0, 8, 'a', NULL)";
    let table: [(&str, &[&str], i32, &str); 7] = [
        ("nothing at all", &[], 1, "a start makes a new tree"),
        ("no entries", &[VERSION_ROW], 1, "it is empty"),
        ("good rows", &[VERSION_ROW, good], 0, "result: clean"),
        (
            "odd and taken",
            &[VERSION_ROW, "(2, 2, 2, 0, 0, 4, 'a', NULL)"],
            1,
            "inside itself",
        ),
        (
            "refused",
            &[VERSION_ROW, good, "(3, 0, 3, 0, 0, 8, 'a', NULL)"],
            3,
            "same name",
        ),
        (
            "refused by the guest list",
            &[
                VERSION_ROW,
                "(2, 0, 2, 0, 0, 4, 'nodes', NULL)",
                "(3, 2, 3, 0, 0, 4, 'a', NULL)",
                "(4, 3, 4, 0, 0, 4, 'lxc', NULL)",
                "(5, 4, 5, 0, 0, 8, '100.conf', NULL)",
                "(6, 2, 6, 0, 0, 4, 'b', NULL)",
                "(7, 6, 7, 0, 0, 4, 'qemu-server', NULL)",
                "(8, 7, 8, 0, 0, 8, '100.conf', NULL)",
            ],
            3,
            "guest 100 has another config, 'nodes/a/lxc/100.conf'",
        ),
        (
            "everything is told at once",
            &[
                VERSION_ROW,
                "(2, 9, 2, 0, 0, 8, 'x', NULL)",
                "(3, 0, 3, 0, 0, 7, 'y', NULL)",
            ],
            3,
            "2 faults",
        ),
    ];
    for (name, rows, status, text) in table {
        let answer = Place::with_rows(rows).tool::<&str>("check", &[]);
        assert_eq!(answer.status, status, "{name}: {answer:#?}");
        answer.says(text);
    }
}

#[test]
fn what_is_no_database_is_refused_and_what_is_not_there_is_trouble() {
    let place = Place::new();
    place
        .tool::<&str>("check", &[])
        .expect(2)
        .says("cannot find the database");

    fs::write(
        place.database(),
        b"no database, but long enough. ".repeat(100),
    )
    .unwrap();
    place
        .tool::<&str>("check", &[])
        .expect(3)
        .says("not a database");

    fs::remove_file(place.database()).unwrap();
    Connection::open(place.database())
        .unwrap()
        .execute_batch("CREATE TABLE tree (inode INTEGER PRIMARY KEY, name TEXT)")
        .unwrap();
    place
        .tool::<&str>("check", &[])
        .expect(3)
        .says("no such column");
}

#[test]
fn damage_on_disk_is_told_and_not_repaired_in_place() {
    let place = Place::new();
    let (database, _) = recordings()
        .into_iter()
        .find(|(path, _)| path.ends_with("large-files.db"))
        .expect("a recording with pages to damage");
    let mut bytes = fs::read(database).unwrap();
    let overflow = bytes.len() - 4096;
    // The page number behind an overflow page leads nowhere.
    bytes[overflow..overflow + 4].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    fs::write(place.database(), &bytes).unwrap();
    place
        .tool::<&str>("check", &[])
        .expect(3)
        .says("pmxcfs-db salvage");
    place
        .tool("repair", &["--apply"])
        .expect(2)
        .says("pmxcfs-db salvage");
    assert_eq!(fs::read(place.database()).unwrap(), bytes);
    assert_eq!(place.files(), ["config.db"]);
}

#[test]
fn a_transaction_that_another_program_left_is_not_undone_by_looking() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'a', zeroblob(100000))"]);
    let connection = Connection::open(place.database()).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size=1; BEGIN; UPDATE tree SET data=randomblob(90000) WHERE inode=2",
        )
        .unwrap();
    let killed = Place::new();
    for name in ["config.db", "config.db-journal"] {
        fs::copy(
            place.path("state").join(name),
            killed.path("state").join(name),
        )
        .unwrap();
    }
    killed
        .tool::<&str>("check", &[])
        .expect(2)
        .says("sqlite3")
        .says(".schema");
    assert_eq!(killed.files(), ["config.db", "config.db-journal"]);
    // As the message says.
    let other = Connection::open(killed.database()).unwrap();
    let tables: i64 = other
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
    drop(other);
    killed.tool::<&str>("check", &[]).expect(0);
}

#[test]
fn secrets_that_others_can_read_are_noted() {
    let place = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'a', NULL)"]);
    fs::set_permissions(place.database(), fs::Permissions::from_mode(0o644)).unwrap();
    place
        .tool::<&str>("check", &[])
        .expect(0)
        .says("its mode is 0644");
}

#[test]
fn wrong_command_lines_have_a_status_of_their_own() {
    for arguments in [
        &["check", "--nonsense"][..],
        &["nonsense"],
        &["diff", "a"],
        &[],
    ] {
        tool(arguments).expect(2);
    }
    tool(["--help"]).expect(0).says("Exit status");
    tool(["--version"]).expect(0);
}
