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

/// Adds files of random content to the database of a stopped daemon, in directories of 100 entries: `d1/f2`, `d1/f3` and so
/// on up to `fCOUNT`. `count` is the number of entries, `size` that of bytes in each file.
///
/// # Panics
/// As [`query`].
pub fn fill(database: &Path, count: usize, size: usize) {
    let base = tree_version(database);
    let directory = "(i - 1) % 100 = 0";
    let _silence = query(
        database,
        &format!(
            "BEGIN;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data)
             SELECT {base} + i, iif({directory}, 0, {base} + i - (i - 1) % 100), {base} + i, 1, 1800000000,
                    iif({directory}, 4, 8), iif({directory}, 'd', 'f') || i, iif({directory}, NULL, randomblob({size}))
             FROM n;
             UPDATE tree SET version = {base} + {count} WHERE inode = 0;
             COMMIT"
        ),
    );
}
