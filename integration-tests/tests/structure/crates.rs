//! The crate graph that ARCHITECTURE.txt draws is the one that cargo builds, and it points one way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The folder of the workspace that the test is run in.
pub(crate) fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    let folder = Path::new(&package).parent();
    folder.expect("a member of the workspace").to_owned()
}

/// What cargo knows of the workspace's own packages.
pub(crate) fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Lines `  CRATE   DEPENDENCY ...` of the section "Crates", up to the first empty line behind them. Dependencies leave
/// out the prefix `pmxcfs-`.
fn documented() -> Graph {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.txt")).expect("readable");
    let lines = text.lines().skip_while(|line| *line != "Crates");
    let is_row = |line: &&str| line.starts_with("  pmxcfs");
    lines
        .skip_while(|line| !is_row(line))
        .take_while(is_row)
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a row is not empty").to_owned();
            (name, words.map(|word| format!("pmxcfs-{word}")).collect())
        })
        .collect()
}

fn built() -> Graph {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    packages
        .iter()
        .filter(|package| text(&package["name"]).starts_with("pmxcfs"))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let ours = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null() && !dependency["path"].is_null());
            (
                text(&package["name"]),
                ours.map(|dependency| text(&dependency["name"])).collect(),
            )
        })
        .collect()
}

#[test]
fn documented_crate_graph_is_the_real_one() {
    assert_eq!(documented(), built());
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.txt")).expect("readable");
    let order: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "Crates")
        .filter(|line| line.starts_with("  pmxcfs"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let position = |name: &str| {
        order
            .iter()
            .position(|other| *other == name)
            .expect("documented")
    };
    for (name, dependencies) in built() {
        for dependency in dependencies {
            assert!(
                position(&name) < position(&dependency),
                "{name} on {dependency}"
            );
        }
    }
}

/// Tests of crates that mount, or need root for other reasons. All others are in `make quick`.
const NEED_ROOT: [&str; 5] = ["corosync", "hostile_*", "libqb", "life_cycle", "liveness"];

#[test]
fn make_quick_has_every_test_that_needs_no_root() {
    let makefile = std::fs::read_to_string(workspace().join("Makefile")).expect("readable");
    let list = makefile.replace("\\\n", " ");
    let list = list
        .lines()
        .find_map(|line| line.strip_prefix("QUICK_TESTS = "));
    let quick: Vec<&str> = list.expect("a list").split_whitespace().collect();
    let is_in = |patterns: &[&str], name: &str| {
        patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == *pattern,
            })
    };
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("a list") {
        if package["name"] == "integration-tests" {
            continue;
        }
        for target in package["targets"].as_array().expect("a list") {
            let name = target["name"].as_str().expect("a text");
            if target["kind"][0] == "test" {
                assert_ne!(
                    is_in(&quick, name),
                    is_in(&NEED_ROOT, name),
                    "{name} is in one of the lists"
                );
            }
        }
    }
}
