//! The daemon's database, looked at and changed with the `sqlite3` tool that operators use.

use std::path::Path;
use std::process::Command;

/// Runs a statement and returns what it prints.
///
/// # Panics
/// If the tool is missing or reports an error.
#[must_use]
pub fn query(database: &Path, statement: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-batch", "-cmd", ".timeout 5000"])
        .arg(database)
        .arg(statement)
        .output()
        .expect("the sqlite3 tool is installed");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{statement}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Version of the whole tree, as stored.
///
/// # Panics
/// As [`query`], and if there is no version row.
#[must_use]
pub fn tree_version(database: &Path) -> u64 {
    query(
        database,
        "SELECT version FROM tree WHERE inode = 0 AND name = '__version__'",
    )
    .parse()
    .expect("the version row")
}
