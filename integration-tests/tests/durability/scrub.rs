//! `pmxcfs-ctl scrub`: the database is compared with memory.

use std::fs;
use std::process::Command;

use integration_tests::daemon::control_program;
use integration_tests::{Host, database};

/// Exit status and output of `pmxcfs-ctl`.
fn ask(host: &Host, command: &str) -> (Option<i32>, String) {
    let output = Command::new(control_program())
        .arg(command)
        .arg("--root-dir")
        .arg(host.root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn a_row_that_differs_from_memory_is_mended_and_told() {
    let host = Host::new();
    let daemon = host.start();
    fs::create_dir(host.path("d")).unwrap();
    fs::write(host.path("d/f"), "right").unwrap();
    fs::write(host.path("g"), "kept").unwrap();
    assert_eq!(ask(&host, "flush").0, Some(0));
    let (status, text) = ask(&host, "scrub");
    assert_eq!(
        (status, text.as_str()),
        (Some(0), "3 rows compared, 0 written anew\n")
    );

    let change =
        "UPDATE tree SET data = 'wrong' WHERE name = 'f'; DELETE FROM tree WHERE name = 'g'";
    assert_eq!(database::query(&host.database(), change), "");
    let (status, text) = ask(&host, "scrub");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("2 written anew"), "{text}");
    assert!(text.contains("d/f: data differed"), "{text}");
    assert!(text.contains("g: the row was missing"), "{text}");
    assert_eq!(ask(&host, "flush").0, Some(0));
    let rows = "SELECT name, data FROM tree WHERE name IN ('f', 'g') ORDER BY name";
    assert_eq!(database::query(&host.database(), rows), "f|right\ng|kept");

    let (status, text) = ask(&host, "status");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("rows-differed"), "{text}");
    assert!(text.contains("2 written anew since the start"), "{text}");
    assert!(
        host.log()
            .contains("rows of the database differed from memory"),
        "{}",
        host.log()
    );

    // A scrub that finds nothing ends the problem.
    assert_eq!(ask(&host, "scrub").0, Some(0));
    assert_eq!(ask(&host, "status").0, Some(0));
    daemon.stop();
}
