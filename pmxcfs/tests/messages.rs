//! An operator who meets a warning or an error in the log finds it in docs/operations.md.

#![expect(clippy::string_slice, reason = "the places come from searches")]

use std::fs;
use std::path::{Path, PathBuf};

/// Shortest part of a message that a row may quote.
const MIN_QUOTE: usize = 8;

fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("the crate is part of a workspace")
}

/// Source files of all crates, without their tests.
fn sources() -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = fs::read_dir(workspace())
        .expect("listable")
        .map(|entry| entry.expect("listable").path().join("src"))
        .filter(|path| path.is_dir() && path.to_string_lossy().contains("/pmxcfs"))
        .collect();
    let mut files = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("listable") {
            let path = entry.expect("listable").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            if ["tests", "tests.rs", "sim"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The texts of the warnings and errors in a source, placeholders included.
fn messages(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = ["tracing::warn!(", "tracing::error!("];
    let calls = calls
        .into_iter()
        .flat_map(|call| source.match_indices(call));
    let text = |(at, call): (usize, &str)| {
        let arguments = up_to_closing(&source[at + call.len()..]);
        // The last string that is a sentence: names of fields have no quotes, and arguments behind it are no strings.
        let sentence = arguments.split('"').skip(1).step_by(2).last()?;
        let lines = sentence.lines().map(str::trim).collect::<Vec<_>>();
        Some(lines.join(" ").replace("\\ ", "").replace("  ", " "))
    };
    calls.filter_map(text).collect()
}

/// What stands before the parenthesis that closes a call, strings skipped.
fn up_to_closing(source: &str) -> &str {
    let (mut depth, mut is_text) = (1, false);
    let end = source.find(|character| {
        match character {
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &source[..end.expect("each call is closed")]
}

/// The parts of a message that are always the same.
fn fixed_parts(message: &str) -> impl Iterator<Item = &str> {
    let mut parts = message.split('{');
    let first = parts.next();
    let others = parts.filter_map(|part| Some(part.split_once('}')?.1));
    first.into_iter().chain(others)
}

#[test]
fn every_warning_and_error_has_a_row_in_the_operations_guide() {
    let guide = fs::read_to_string(workspace().join("docs/operations.md")).expect("readable");
    let quotes: Vec<&str> = guide.split('`').skip(1).step_by(2).collect();
    let quotes = || quotes.iter().filter(|quote| quote.len() >= MIN_QUOTE);
    let mut count = 0;
    let mut missing = Vec::new();
    for path in sources() {
        for message in messages(&fs::read_to_string(&path).expect("readable")) {
            // Placeholders alone show an error that was made elsewhere.
            if fixed_parts(&message).all(|part| part.len() < MIN_QUOTE) {
                continue;
            }
            count += 1;
            let begin = fixed_parts(&message).next().unwrap_or_default();
            let is_in_guide = quotes().any(|quote| {
                message.contains(*quote) || (begin.len() >= MIN_QUOTE && quote.starts_with(begin))
            });
            if !is_in_guide {
                missing.push(format!("{}: {message}", path.display()));
            }
        }
    }
    assert!(count > 40, "only {count} messages were found");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
