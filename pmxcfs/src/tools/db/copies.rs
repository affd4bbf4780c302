//! Keeps a copy of a database before it is changed, and removes drafts of killed tools.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pmxcfs_api_types::time::{utc, wall_clock_secs};
use pmxcfs_memdb::store::journal_files;

use super::lock::Lock;

/// Names that are tried for a copy.
const MAX_ATTEMPTS: u32 = 1000;

/// Copies a database with everything that belongs to its state: SQLite's log and, if there is one, the crash journal.
/// The copies are on disk when this returns. Returns the path of the database's copy.
pub(super) fn keep(database: &Path, why: &str, run_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let (target, reserved) = reserve(database, why)?;
    let companions = ["-wal", "-journal"]
        .map(|suffix| (with_suffix(database, suffix), with_suffix(&target, suffix)));
    let journal = run_dir.map(journal_files).into_iter().flatten();
    let journal = journal.enumerate().map(|(index, from)| {
        let suffix = format!(".memdb-journal.{index}");
        (from, with_suffix(&target, &suffix))
    });
    let others: Vec<(PathBuf, PathBuf)> = companions
        .into_iter()
        .chain(journal)
        .filter(|(from, _)| fs::metadata(from).is_ok_and(|metadata| metadata.len() > 0))
        .collect();
    let copied = copy(database, reserved)
        .and_then(|()| {
            others
                .iter()
                .try_for_each(|(from, to)| copy(from, create_new(to)?))
        })
        .with_context(|| format!("cannot copy {} to {}", database.display(), target.display()))
        .and_then(|()| sync_directory(&target));
    if let Err(error) = copied {
        for path in others.iter().map(|(_, to)| to).chain([&target]) {
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

/// Makes an empty file under a name that was free.
fn reserve(database: &Path, why: &str) -> anyhow::Result<(PathBuf, File)> {
    let stamp = utc(wall_clock_secs()).replace(['-', ':'], "");
    let first = with_suffix(database, &format!(".before-{why}-{stamp}"));
    let others = (1..MAX_ATTEMPTS).map(|number| with_suffix(&first, &format!("-{number}")));
    for candidate in iter::once(first.clone()).chain(others) {
        match create_new(&candidate) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                let failed = || format!("cannot keep a copy as {}", candidate.display());
                let file = made.with_context(failed)?;
                return Ok((candidate, file));
            }
        }
    }
    anyhow::bail!("cannot keep a copy as {}: it exists", first.display())
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn copy(from: &Path, mut to: File) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut to)?;
    to.sync_all()
}

/// Makes the names in a file's directory durable.
pub(super) fn sync_directory(file: &Path) -> anyhow::Result<()> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", directory.display()))
}

/// A path with something behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
