//! What a start does where there is no database: the file is missing, or it has zero bytes.
//!
//! A node without a file begins with an empty tree. A file of zero bytes may also be what a broken filesystem has left of
//! a database, and a node that comes up on its own with an empty tree, writable, would be worse than one that does not
//! start. So such a file is a first start only if the caller says so, and if nothing tells of a database: SQLite's log
//! and the crash journal. SQLite deletes a log beside an empty file as soon as it opens that, so all this is found out
//! before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pmxcfs_api_types::files::{directory_of, has_content};
use pmxcfs_api_types::time::wall_clock_secs;

use super::config::StoreConfig;
use super::database::{create, wal_path};
use super::error::{StoreError, cannot};
use super::journal::{free_name, journal_files};
use super::warning::Warning;
use crate::RootState;

/// Makes a database of no entries if this is a first start: it is on the disk when this returns. Tells whether it was
/// made, and what the operator should know.
pub(crate) fn prepare(config: &StoreConfig) -> Result<(bool, Vec<Warning>), StoreError> {
    let path = &config.database;
    let mut warnings = Vec::new();
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > 0 => return Ok((false, warnings)),
        Ok(_) => {
            check_empty(config)?;
            warnings.push(Warning::WasEmpty);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            warnings.extend(move_log_away(path)?);
        }
        // Opening says what is wrong.
        Err(_) => return Ok((false, warnings)),
    }
    let root = RootState {
        version: 1,
        writer: 0,
        mtime: wall_clock_secs(),
    };
    create(path, root, &[])?;
    Ok((true, warnings))
}

/// Fails if a file of zero bytes is no database to start with. Touches nothing.
fn check_empty(config: &StoreConfig) -> Result<(), StoreError> {
    let path = &config.database;
    let mut beside = vec![wal_path(path)];
    beside.extend(journal_files(&config.journal_dir));
    beside.retain(|path| has_content(path));
    if beside.is_empty() && config.accept_empty {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "the database {} has 0 bytes: its content is lost, and a start would begin with an empty tree. {} {} Put a good \
         copy in its place, or remove the file to begin anew",
        path.display(),
        list("log or crash journal", &beside),
        list("copy", &copies(path))
    )))
}

fn list(what: &str, paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match names.is_empty() {
        true => format!("No {what} is there."),
        false => format!("There is a {what}: {}.", names.join(", ")),
    }
}

/// Keeps a log that SQLite would apply to the new database, or delete.
fn move_log_away(database: &Path) -> Result<Option<Warning>, StoreError> {
    let path = wal_path(database);
    let kept = free_name(&path, wall_clock_secs()).filter(|_| has_content(&path));
    if let Some(kept) = &kept {
        let what = "rename the log of a database that is gone,";
        fs::rename(&path, kept).map_err(cannot(what, &path))?;
    }
    Ok(kept.map(|kept| Warning::LogKept { kept }))
}

/// Files that begin with the database's name, as `pmxcfs-db` and operators name copies, and those of the directory
/// `backup`, where Proxmox VE keeps them.
fn copies(database: &Path) -> Vec<PathBuf> {
    let directory = directory_of(database);
    let prefix = database.file_name().unwrap_or_default().as_encoded_bytes();
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(&[prefix, b"."].concat())
    };
    let mut copies = files(directory);
    copies.retain(is_copy);
    copies.extend(files(&directory.join("backup")));
    copies.retain(|path| has_content(path));
    copies.sort();
    copies
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
