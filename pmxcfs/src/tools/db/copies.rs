//! Keeps a copy of a database before it is changed, and removes drafts of killed tools.

use std::fs::{self, File};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pmxcfs_api_types::files::{create_private, has_content, sync_directory_of, with_suffix};
use pmxcfs_api_types::time::{utc, wall_clock_secs};
use pmxcfs_memdb::store::journal_files;

use super::lock::Lock;

/// Names that are tried for a copy.
const MAX_ATTEMPTS: u32 = 1000;

/// Copies a database with everything that belongs to its state: SQLite's log and, if there is one, the crash journal.
/// The copies are on disk when this returns. Returns the path of the database's copy.
pub(super) fn keep(database: &Path, why: &str, run_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let target = free_name(database, why)?;
    let companion = |suffix: &str| (with_suffix(database, suffix), with_suffix(&target, suffix));
    let journal = run_dir.map(journal_files).into_iter().flatten();
    let journal = journal.enumerate().map(|(index, from)| {
        let suffix = format!(".memdb-journal.{index}");
        (from, with_suffix(&target, suffix))
    });
    let beside = ["-wal", "-journal"].map(companion).into_iter();
    let beside = beside.chain(journal).filter(|(from, _)| has_content(from));
    let copies: Vec<(PathBuf, PathBuf)> = iter::once(companion("")).chain(beside).collect();
    let copied = copies
        .iter()
        .try_for_each(|(from, to)| copy(from, to))
        .and_then(|()| sync_directory_of(&target))
        .with_context(|| format!("cannot copy {} to {}", database.display(), target.display()));
    if let Err(error) = copied {
        for (_, path) in copies {
            // A copy that is not whole is of no use; some of them were not made.
            let _removed = fs::remove_file(path);
        }
        return Err(error);
    }
    Ok(target)
}

/// Removes drafts of databases that killed tools left beside this one. Only while daemons and other tools are kept away.
pub(super) fn clear_drafts(lock: &Lock) -> io::Result<()> {
    let (Some(directory), Some(name)) = (lock.database.parent(), lock.database.file_name()) else {
        return Ok(());
    };
    let mut prefix = name.to_owned();
    prefix.push(".new-");
    // Without the lock, others may be at work; what this process would take for its own cannot be theirs.
    if !lock.is_exclusive() {
        prefix.push(std::process::id().to_string());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes());
        if rest.is_some_and(is_end_of_draft) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The rest of a process id, and a suffix of SQLite's.
fn is_end_of_draft(rest: &[u8]) -> bool {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    matches!(&rest[digits..], b"" | b"-wal" | b"-shm" | b"-journal")
}

/// A name for a copy that nothing has.
fn free_name(database: &Path, why: &str) -> anyhow::Result<PathBuf> {
    let stamp = utc(wall_clock_secs()).replace(['-', ':'], "");
    let first = with_suffix(database, format!(".before-{why}-{stamp}"));
    let others = (1..MAX_ATTEMPTS).map(|number| with_suffix(&first, format!("-{number}")));
    iter::once(first.clone())
        .chain(others)
        .find(|candidate| !candidate.exists())
        .with_context(|| format!("cannot keep a copy as {}: it exists", first.display()))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = create_private(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
