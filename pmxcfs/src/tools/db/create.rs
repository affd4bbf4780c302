//! `create`: the installer's `create_pmxcfs_db`.
//!
//! Arguments, result and statuses are those of the C tool. Other than that tool, it does not touch a database that a
//! daemon uses, and leaves nothing half-done.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use pmxcfs_api_types::limits::MAX_FILE_SIZE;
use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::store::Backend as _;
use pmxcfs_memdb::store::{self, Access, SqliteBackend, examine};
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE, RootState};

use super::cli::{CreateArgs, Location};
use super::copies;
use super::lock::{Lock, Use};
use super::scan::read_file;
use super::source::require_loadable;
use crate::text;
use crate::tools::program::{CommandResult, Outcome};

pub(super) fn run(args: &CreateArgs, notes: &mut dyn Write) -> CommandResult {
    let names = regular_files(&args.directory)
        .with_context(|| format!("cannot open the directory {}", args.directory.display()))?;
    let lock = Lock::take(&args.database, Use::Write)?;
    let exists = lock.database.exists();
    let (mut root, mut entries) = if exists {
        existing(&lock.database)?
    } else {
        (
            RootState {
                version: 1,
                ..RootState::default()
            },
            Vec::new(),
        )
    };
    let added = add_files(&args.directory, &names, &mut root, &mut entries, notes)?;
    if exists && added == 0 {
        return Ok(Outcome::Good);
    }
    root.mtime = wall_clock_secs();
    root.writer = 0;
    put_in_place(&lock, root, &entries)?;
    Ok(Outcome::Good)
}

/// Builds a database beside the old one and renames it.
pub(super) fn put_in_place(lock: &Lock, root: RootState, entries: &[Entry]) -> anyhow::Result<()> {
    copies::clear_drafts(lock)
        .with_context(|| format!("cannot clear drafts of {}", lock.database.display()))?;
    if lock.database.exists() {
        // What a killed user left in SQLite's log belongs to the old file, and must not be met by the new one.
        SqliteBackend::open(&lock.database)
            .map(Box::new)
            .and_then(|backend| backend.close())
            .with_context(|| {
                format!(
                    "cannot close the log of {}; move the database and its -wal file out of the way",
                    lock.database.display()
                )
            })?;
    }
    store::create(&lock.database, root, entries)
        .with_context(|| format!("cannot write {}", lock.database.display()))
}

/// Names of the regular files of a directory, in the directory's order.
fn regular_files(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// The present content of a database.
fn existing(database: &Path) -> anyhow::Result<(RootState, Vec<Entry>)> {
    let run_dir = Location::of(database).paths().run_dir;
    let examined = examine(database, Access::Idle, Some(&run_dir))?;
    require_loadable(database, &examined)?;
    Ok((examined.root, examined.entries))
}

/// Adds files to the root directory. Each takes two versions, that of its creation and that of its content.
fn add_files(
    directory: &Path,
    names: &[OsString],
    root: &mut RootState,
    entries: &mut Vec<Entry>,
    notes: &mut dyn Write,
) -> anyhow::Result<usize> {
    let before = entries.len();
    let mtime = wall_clock_secs();
    for name in names {
        let path: PathBuf = directory.join(name);
        let name = Bytes::from(name.clone().into_vec());
        let taken = entries[..before]
            .iter()
            .any(|entry| entry.parent == ROOT_INODE && entry.name == name);
        if taken {
            bail!(
                "cannot add {}: the database has a '{}' already; nothing was changed",
                path.display(),
                text::escape_name(&name)
            );
        }
        let data = match read_file(&path) {
            Ok(Some(data)) => data,
            Ok(None) => bail!(
                "cannot add {}: it is larger than {MAX_FILE_SIZE} bytes; nothing was changed",
                path.display()
            ),
            Err(error) => {
                // The C tool says nothing and goes on.
                writeln!(notes, "left out {}: {error}", path.display())?;
                continue;
            }
        };
        root.version += 2;
        entries.push(Entry {
            inode: root.version - 1,
            parent: ROOT_INODE,
            version: root.version,
            writer: 0,
            mtime,
            size: u32::try_from(data.len()).expect("it is no larger than a file may be"),
            kind: EntryKind::File,
            name,
            data,
        });
    }
    Ok(entries.len() - before)
}
