//! Stories of the protocol with their exact output, and the table of modes and events.
//!
//! `PMXCFS_REWRITE=1` writes the output that is found into the files; a difference is committed only with its reason.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and uses a part of the simulation"
)]

#[path = "transcripts/mode_table.rs"]
mod mode_table;
#[path = "transcripts/scenario.rs"]
mod scenario;
#[path = "sim/mod.rs"]
mod sim;

use std::path::PathBuf;

fn scenarios() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Compares with a file, or writes it.
fn expect(path: &PathBuf, found: &str) {
    if std::env::var_os("PMXCFS_REWRITE").is_some() {
        return std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == found,
        "{} is not what happens now:\n{found}",
        path.display()
    );
}

#[test]
fn scenarios_run_as_written() {
    let mut count = 0;
    for entry in std::fs::read_dir(scenarios()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let script = std::fs::read_to_string(&path).unwrap();
            expect(&path, &scenario::play(&script));
            count += 1;
        }
    }
    assert!(count > 0, "no scenario was found");
}

#[test]
fn every_mode_meets_every_event_as_in_the_table() {
    expect(&scenarios().join("modes.table"), &mode_table::print());
}
