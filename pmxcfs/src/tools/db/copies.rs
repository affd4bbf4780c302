//! Keeping a copy of a database before it is changed, and clearing away what a killed tool left.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::store::journal_files;

use super::lock::WriteLock;
use crate::tools::text;

/// Companions that belong to the content of a database.
const COMPANIONS: [&str; 2] = ["-wal", "-journal"];

/// Names that are tried for a copy.
const MAX_ATTEMPTS: u32 = 1000;

/// Copies a database with everything that belongs to its state: SQLite's log and, if there is one, the crash journal.
/// The copies are on disk when this returns. Returns the path of the database's copy.
pub(super) fn keep(database: &Path, why: &str, run_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let target = reserve(database, why)?;
    let copy = || -> anyhow::Result<()> {
        copy_content(database, &target)?;
        for companion in COMPANIONS {
            let from = with_suffix(database, companion);
            if size_of(&from) > 0 {
                copy_new(&from, &with_suffix(&target, companion))?;
            }
        }
        let journal = run_dir.map(journal_files).into_iter().flatten();
        for (index, from) in journal.enumerate() {
            if size_of(&from) > 0 {
                copy_new(
                    &from,
                    &with_suffix(&target, &format!(".memdb-journal.{index}")),
                )?;
            }
        }
        sync_directory(&target)
    };
    copy().inspect_err(|_error| {
        let suffixes = [
            "",
            "-wal",
            "-journal",
            ".memdb-journal.0",
            ".memdb-journal.1",
        ];
        for suffix in suffixes {
            // A copy that is not whole is of no use; most of them were not made.
            let _removed = fs::remove_file(with_suffix(&target, suffix));
        }
    })?;
    Ok(target)
}

/// Removes drafts of databases that killed tools left beside this one. Only while daemons and other tools are kept away.
pub(super) fn clear_drafts(lock: &WriteLock) -> anyhow::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (lock.database.parent(), lock.database.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = name.to_owned();
    prefix.push(".new-");
    // Without the lock, others may be at work; what this process would take for its own cannot be theirs.
    if !lock.is_exclusive() {
        prefix.push(std::process::id().to_string());
    }
    let mut removed = Vec::new();
    let failed = || format!("cannot clear drafts out of {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if is_draft(&entry.file_name(), &prefix)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            fs::remove_file(entry.path()).with_context(failed)?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

fn is_draft(name: &OsString, prefix: &OsString) -> bool {
    let (name, prefix) = (name.as_encoded_bytes(), prefix.as_encoded_bytes());
    name.strip_prefix(prefix).is_some_and(|rest| {
        let rest = rest.strip_suffix(b"-wal").unwrap_or(rest);
        let rest = rest.strip_suffix(b"-shm").unwrap_or(rest);
        let rest = rest.strip_suffix(b"-journal").unwrap_or(rest);
        rest.iter().all(u8::is_ascii_digit)
    })
}

/// Makes an empty file under a name that was free.
fn reserve(database: &Path, why: &str) -> anyhow::Result<PathBuf> {
    let stamp = text::time_in_name(wall_clock_secs());
    for attempt in 0..MAX_ATTEMPTS {
        let number = match attempt {
            0 => String::new(),
            attempt => format!("-{attempt}"),
        };
        let candidate = with_suffix(database, &format!(".before-{why}-{stamp}{number}"));
        match create_new(&candidate) {
            Ok(_file) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot keep a copy as {}", candidate.display()));
            }
        }
    }
    anyhow::bail!(
        "cannot keep a copy of {}: all names are taken",
        database.display()
    )
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn copy_new(from: &Path, to: &Path) -> anyhow::Result<()> {
    create_new(to).with_context(|| format!("cannot keep a copy as {}", to.display()))?;
    copy_content(from, to)
}

fn copy_content(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = || -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = OpenOptions::new().write(true).open(to)?;
        io::copy(&mut source, &mut target)?;
        target.sync_all()
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
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

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// A path with something behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
