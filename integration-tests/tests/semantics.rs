//! Every promise of docs/semantics.md, and of the table of docs/operations.md that says who can do what, names tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a member of the workspace")
}

/// A row of one of the tables.
struct Row {
    id: String,
    tests: Vec<String>,
}

/// Rows begin with an id: letters, then a number. Tests stand in the last column, each between back quotes.
fn rows() -> Vec<Row> {
    let read = |document: &str| {
        std::fs::read_to_string(workspace().join(document)).expect("the document is there")
    };
    let text = read("docs/semantics.md") + &read("docs/operations.md");
    let is_id = |id: &str| {
        let number = id.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        number.len() < id.len() && number.parse::<u32>().is_ok()
    };
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let (id, tests) = (cells.first()?, cells.last()?);
            is_id(id).then(|| Row {
                id: (*id).to_owned(),
                tests: tests
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect(),
            })
        })
        .collect()
}

/// Where the test `[CRATE/]TARGET::...::NAME` can be: among the tests of the crate, or beside its code.
fn files(test: &str) -> (Vec<PathBuf>, &str) {
    let (package, path) = test.split_once('/').unwrap_or(("integration-tests", test));
    let (modules, name) = path
        .rsplit_once("::")
        .expect("a test is inside of a module");
    let stems = ["tests", "src"].map(|directory| {
        let directory = workspace().join(package).join(directory);
        directory.join(modules.replace("::", "/"))
    });
    let candidates = stems.iter().flat_map(|stem| {
        [
            stem.with_extension("rs"),
            stem.join("main.rs"),
            stem.join("mod.rs"),
        ]
    });
    let found = candidates.filter(|file| file.exists()).collect();
    (found, name)
}

/// Whether a function is a test: by its attribute, or by its name in the list of a target that has its own runner.
fn is_test(source: &str, name: &str) -> bool {
    let definition = format!("fn {name}()");
    let Some((before, _)) = source.split_once(&definition) else {
        return false;
    };
    let attributes = before.lines().rev();
    let has_attribute = attributes
        .take_while(|line| line.starts_with("#["))
        .any(|line| line == "#[test]");
    has_attribute || source.contains(&format!("\"{name}\","))
}

#[test]
fn every_promise_names_tests_that_exist() {
    let rows = rows();
    assert!(rows.len() > 50, "only {} rows were found", rows.len());
    let mut ids = BTreeSet::new();
    let mut wrong = Vec::new();
    for Row { id, tests } in &rows {
        if !ids.insert(id) {
            wrong.push(format!("{id} is there twice"));
        }
        // What is not promised need not be tested.
        if tests.is_empty() && !id.starts_with('X') {
            wrong.push(format!("{id} has no test"));
        }
        for test in tests {
            let (files, name) = files(test);
            let exists = files.iter().any(|file| {
                let source = std::fs::read_to_string(file).expect("a source file");
                is_test(&source, name)
            });
            if !exists {
                wrong.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
