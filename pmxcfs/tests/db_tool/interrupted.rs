//! Killed in the middle, or out of space: what was there stays, and nothing is half-made.
//!
//! A limit on the size of files kills a process at the first write beyond it (SIGXFSZ), or, where the signal is ignored,
//! makes that write fail. Going through the limits stops the tool at every stage of its writing, without any timing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::place::{Answer, Place, VERSION_ROW, answer};

/// Units of the shell's limit, in bytes.
const UNIT: usize = 512;

/// What happens at a write beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Kills,
    Fails,
}

fn limited(command: &Command, units: usize, limit: Limit) -> Answer {
    let trap = match limit {
        Limit::Kills => "",
        Limit::Fails => "trap '' XFSZ; ",
    };
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!(
            "ulimit -c 0; {trap}ulimit -f {units}; exec \"$0\" \"$@\""
        ))
        .arg(command.get_program())
        .args(command.get_args());
    answer(&mut shell)
}

/// Rows with faults on every page: SQLite's log of a repair becomes larger than the database, so that there are limits
/// under which a copy can be made and the repair is stopped within its transaction.
fn rows() -> Vec<String> {
    let mut rows = vec![VERSION_ROW.to_owned()];
    for inode in 2..300 {
        let parent = if inode % 2 == 0 { 999 } else { 0 };
        rows.push(format!(
            "({inode}, {parent}, {inode}, 0, 0, 8, 'file-{inode}', zeroblob({}))",
            inode % 90
        ));
    }
    rows
}

fn contents(dump: &Value) -> Vec<String> {
    let entries = dump["entries"].as_array().unwrap().iter();
    let mut digests: Vec<String> = entries
        .filter_map(|entry| entry["sha256"].as_str().map(str::to_owned))
        .collect();
    digests.sort();
    digests
}

fn copies(place: &Place) -> usize {
    let names = place.files().into_iter();
    names.filter(|name| name.contains(".before-")).count()
}

/// Limits up to beyond the largest file that is written: the database or SQLite's log. Most are above the database's
/// size, where a copy of it can be made.
fn limits(place: &Place) -> impl Iterator<Item = usize> {
    let size = usize::try_from(fs::metadata(place.database()).unwrap().len()).unwrap();
    let size = size / UNIT;
    let below = (0..size).step_by(size / 5);
    below
        .chain((size..2 * size).step_by(size / 15))
        .chain([3 * size, 100 * size])
}

#[test]
fn a_repair_that_is_stopped_anywhere_loses_nothing() {
    let (mut stopped, mut stopped_within, mut finished) = (0, 0, 0);
    let sample = Place::with_rows(&rows());
    let before = sample.dump();
    for limit in [Limit::Kills, Limit::Fails] {
        for units in limits(&sample) {
            let place = Place::with_copy(&sample);
            let call = limited(&place.command("repair", &["--apply"]), units, limit);
            let after = place.dump();
            assert_eq!(
                contents(&after),
                contents(&before),
                "{limit:?} {units}: {call:#?}"
            );
            if call.status == 0 {
                finished += 1;
            } else {
                stopped += 1;
                stopped_within += usize::from(call.out.contains("is kept as"));
                assert!(
                    limit == Limit::Kills || call.status == 2,
                    "{units}: {call:#?}"
                );
                let check = place.tool::<&str>("check", &[]);
                assert!(
                    matches!(check.status, 0 | 3),
                    "{limit:?} {units}: {check:#?}"
                );
            }
            // Whatever happened, the next one gets through, and the original can still be had.
            let again = place.tool("repair", &["--apply"]).expect(0);
            place.tool::<&str>("check", &[]).expect(0).says("clean");
            let after = place.dump();
            assert_eq!(
                contents(&after),
                contents(&before),
                "{limit:?} {units}: {again:#?}"
            );
            assert!(copies(&place) >= 1);
        }
    }
    assert!(
        stopped > 10 && stopped_within > 3 && finished > 2,
        "{stopped} stopped, {stopped_within} of them within the transaction, {finished} finished"
    );
}

fn source(place: &Place) {
    let source = place.path("source");
    fs::create_dir_all(source.join("d")).unwrap();
    for index in 0..30 {
        fs::write(
            source.join("d").join(index.to_string()),
            vec![b'x'; index * 300],
        )
        .unwrap();
    }
}

#[test]
fn an_import_that_is_stopped_anywhere_leaves_the_old_database_or_the_new_one() {
    let old = Place::with_rows(&[VERSION_ROW, "(2, 0, 2, 0, 0, 8, 'a', 'old')"]);
    let old_dump = contents(&old.dump());
    source(&old);
    let new = Place::new();
    new.tool("import", &[old.path("source")]).expect(0);
    let new_dump = contents(&new.dump());
    let mut outcomes = [0, 0];
    for limit in [Limit::Kills, Limit::Fails] {
        for units in limits(&new) {
            let place = Place::with_copy(&old);
            source(&place);
            let import = place.command(
                "import",
                &["--replace", place.path("source").to_str().unwrap()],
            );
            let call = limited(&import, units, limit);
            let found = contents(&place.dump());
            if call.status == 0 {
                assert_eq!(found, new_dump, "{limit:?} {units}: {call:#?}");
                outcomes[0] += 1;
            } else {
                outcomes[1] += 1;
                assert!(
                    found == old_dump || found == new_dump,
                    "{limit:?} {units}: {call:#?}"
                );
                if limit == Limit::Fails {
                    assert_eq!(call.status, 2, "{units}: {call:#?}");
                    assert!(
                        !place.files().iter().any(|name| name.contains(".new-")),
                        "{:?}",
                        place.files()
                    );
                }
            }
            place.tool::<&str>("check", &[]).expect(0);
            place
                .tool(
                    "import",
                    &["--replace", place.path("source").to_str().unwrap()],
                )
                .expect(0);
            assert_eq!(contents(&place.dump()), new_dump);
            assert!(
                !place.files().iter().any(|name| name.contains(".new-")),
                "{:?}",
                place.files()
            );
        }
    }
    assert!(outcomes[0] > 2 && outcomes[1] > 10, "{outcomes:?}");
}

#[test]
fn a_create_that_is_stopped_anywhere_leaves_no_half_of_a_database() {
    let place = Place::new();
    source(&place);
    let mut command = Command::new(crate::place::PROGRAM);
    command
        .arg("create")
        .arg(place.path("source/d"))
        .arg(place.database());
    for limit in [Limit::Kills, Limit::Fails] {
        for units in (0..200).step_by(10) {
            let call = limited(&command, units, limit);
            assert_ne!(call.status, 0, "{limit:?} {units}");
            assert!(!place.database().exists(), "{limit:?} {units}: {call:#?}");
        }
    }
    answer(&mut command).expect(0);
    assert_eq!(place.files(), ["config.db"]);
    assert_eq!(place.dump()["entries"].as_array().unwrap().len(), 30);
}

#[test]
fn an_export_that_is_stopped_anywhere_makes_no_directory() {
    let place = Place::with_rows(&[
        VERSION_ROW,
        "(2, 0, 2, 0, 0, 8, 'a', 'A')",
        "(3, 0, 3, 0, 0, 8, 'b', zeroblob(9000))",
    ]);
    let target = place.path("target");
    for limit in [Limit::Kills, Limit::Fails] {
        for units in 0..18 {
            let call = limited(&place.command("export", &[&target]), units, limit);
            assert_ne!(call.status, 0, "{limit:?} {units}");
            assert!(!target.exists(), "{limit:?} {units}: {call:#?}");
            if limit == Limit::Fails {
                assert_eq!(drafts(&place.path("")), 18, "only those of the killed ones");
            }
        }
    }
    limited(&place.command("export", &[&target]), 18, Limit::Kills).expect(0);
    assert_eq!(fs::read(target.join("b")).unwrap(), vec![0; 9000]);
}

fn drafts(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".new-")).count()
}

/// Runs a command with a signal that arrived before anything was done, and that waits until somebody looks.
fn signalled(command: &Command, signal: &str) -> Answer {
    let mut env = Command::new("env");
    env.arg(format!("--block-signal={signal}"))
        .args(["sh", "-c"])
        .arg(format!("kill -s {signal} $$; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    answer(&mut env)
}

#[test]
fn whoever_asks_the_tool_to_end_gets_nothing_half_made() {
    let place = Place::with_rows(&rows());
    let target = place.path("target");
    place.tool("repair", &["--apply"]).expect(0);
    let before = fs::read(place.database()).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        signalled(&place.command("export", &[&target]), signal)
            .expect(2)
            .says("interrupted");
        assert!(!target.exists());
        assert_eq!(drafts(&place.path("")), 0, "{signal}");
    }
    let few = Place::with_rows(&[VERSION_ROW]);
    signalled(&few.command("export", &[&few.path("target")]), "TERM")
        .expect(2)
        .says("interrupted");
    assert_eq!(drafts(&few.path("")), 0);
    source(&place);
    let source = place.path("source");
    let import = place.command("import", &["--replace", source.to_str().unwrap()]);
    signalled(&import, "INT").expect(2).says("interrupted");
    assert_eq!(fs::read(place.database()).unwrap(), before);
    assert_eq!(drafts(&place.path("state")), 0);
}
