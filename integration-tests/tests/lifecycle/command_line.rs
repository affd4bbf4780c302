//! Options and exit statuses.

use std::process::{Command, Output};

use integration_tests::daemon::binary;
use integration_tests::{Check, Host};

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

#[test]
fn unusable_command_lines_end_with_the_known_statuses() {
    let mut check = Check::new();
    for (arguments, status, words) in [
        (vec!["--foo"], 1, "Unknown option --foo"),
        (vec!["-V"], 1, "Unknown option -V"),
        (vec!["-f", "-x"], 1, "Unknown option -x"),
        (vec!["argument"], 255, "too many arguments"),
        (vec!["-f", "-l", "argument"], 255, "too many arguments"),
        (vec!["--", "argument"], 255, "too many arguments"),
        (vec!["-f", "--", "-l"], 255, "too many arguments"),
    ] {
        let output = run(&arguments);
        check.equal(
            &format!("status of {arguments:?}"),
            output.status.code(),
            Some(status),
        );
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        check.holds(
            &format!("{arguments:?} says {words:?}: {text}"),
            text.contains(words),
        );
    }
}

#[test]
fn help_and_version_are_printed() {
    let mut check = Check::new();
    for option in ["-h", "--help", "--help-all"] {
        let output = run(&[option]);
        check.equal(option, output.status.code(), Some(0));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in ["--debug", "--foreground", "--local", "--help"] {
            check.holds(&format!("{option} tells of {word}"), text.contains(word));
        }
    }
    let version = run(&["--version"]);
    check.equal("--version", version.status.code(), Some(0));
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    check.holds("--version names the program", text.starts_with("pmxcfs "));
}

#[test]
fn short_options_combine() {
    let host = Host::new();
    let daemon = host.start_with(["-dlf"]);
    assert_eq!(std::fs::read(host.path(".debug")).unwrap(), b"1\n");
    daemon.stop();
}
