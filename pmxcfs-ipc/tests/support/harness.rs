//! A small test runner for tests that need processes of their own.
//!
//! The test binary starts itself again in other roles (server, clients of several kinds), which the standard runner
//! cannot do. Tests run one after the other, so that a test can count descriptors, mappings and files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use nix::unistd::Uid;

/// A named test.
pub type Test = (&'static str, fn());

/// Runs the role that the command line names, or the tests that match it.
pub fn main(tests: &[Test], role: impl Fn(&str, &[String])) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, rest @ ..] = arguments.as_slice()
        && flag == "--role"
    {
        role(name, rest);
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !Uid::effective().is_root() {
        let names: Vec<_> = tests.iter().map(|(name, _)| name).collect();
        eprintln!("these tests need root to make clients of several users: {names:?}");
        return ExitCode::FAILURE;
    }
    let filters: Vec<_> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(*it));
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| is_wanted(name)) {
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({:.2?})", start.elapsed());
        if !passed {
            failed.push(*name);
        }
    }
    println!("{} failed: {failed:?}", failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
