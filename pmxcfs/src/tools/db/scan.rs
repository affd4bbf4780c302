//! Reading a directory tree that is to become a database.
//!
//! The scan finds everything that cannot be stored before anything is written, and reports it at once.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use pmxcfs_api_types::limits::{MAX_FILE_SIZE, MAX_FILESYSTEM_SIZE, MAX_INODE_COUNT};
use pmxcfs_api_types::time::wrapped_seconds;
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE};

use super::progress::Progress;
use crate::text::abridged;

/// Names in the root directory that the mount makes itself; a copy of a mount has them.
const GENERATED: [&str; 10] = [
    ".version",
    ".members",
    ".vmlist",
    ".rrd",
    ".clusterlog",
    ".debug",
    "local",
    "qemu-server",
    "lxc",
    "openvz",
];

/// Reads a directory tree. `base_version` is that of the database before the first entry. Gives the entries, directories before
/// what is in them, each of which takes one version from there on; and messages about skipped entries.
pub(super) fn scan(
    directory: &Path,
    base_version: u64,
    skip_special: bool,
) -> anyhow::Result<(Vec<Entry>, Vec<String>)> {
    let mut scan = Scan {
        skip_special,
        version: base_version,
        size_total: 0,
        entries: Vec::new(),
        skipped: Vec::new(),
        faults: Vec::new(),
        progress: Progress::new("reading", 0)?,
    };
    scan.read_tree(directory)?;
    scan.check_totals();
    if !scan.faults.is_empty() {
        bail!(
            "{} cannot be stored; nothing was written:\n  {}",
            directory.display(),
            abridged(&scan.faults).join("\n  ")
        );
    }
    Ok((scan.entries, scan.skipped))
}

struct Scan {
    skip_special: bool,
    version: u64,
    size_total: u64,
    entries: Vec<Entry>,
    skipped: Vec<String>,
    faults: Vec<String>,
    progress: Progress,
}

impl Scan {
    fn read_tree(&mut self, top: &Path) -> anyhow::Result<()> {
        // Directories that are still to be listed, with the inodes that they became. The last one is next.
        let mut waiting = vec![(top.to_owned(), ROOT_INODE)];
        while let Some((directory, parent)) = waiting.pop() {
            let listed =
                list(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
            for (path, metadata) in listed {
                self.progress.step()?;
                if let Some((kind, data)) = self.read_entry(&path, &metadata, parent)? {
                    let inode = self.add(parent, &path, kind, data, &metadata);
                    if kind == EntryKind::Directory {
                        waiting.push((path, inode));
                    }
                }
            }
            if self.entries.len() as u64 > MAX_INODE_COUNT {
                break;
            }
        }
        Ok(())
    }

    /// The kind and content of a directory entry; `None` if it is skipped or cannot be stored.
    fn read_entry(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        parent: u64,
    ) -> anyhow::Result<Option<(EntryKind, Bytes)>> {
        let shown = path.display();
        let is_generated = |name: &str| path.file_name().is_some_and(|given| given == name);
        if parent == ROOT_INODE && GENERATED.into_iter().any(is_generated) {
            self.skipped
                .push(format!("{shown}: left out, the mount makes that itself"));
            return Ok(None);
        }
        if metadata.is_dir() {
            return Ok(Some((EntryKind::Directory, Bytes::new())));
        }
        if !metadata.is_file() {
            let what = if metadata.is_symlink() {
                "a symbolic link"
            } else {
                "neither a file nor a directory"
            };
            if self.skip_special {
                self.skipped
                    .push(format!("{shown}: left out, it is {what}"));
            } else {
                self.faults.push(format!(
                    "{shown}: it is {what} (--skip-special leaves it out)"
                ));
            }
            return Ok(None);
        }
        let data = read_file(path).with_context(|| format!("cannot read {shown}"))?;
        let Some(data) = data else {
            self.faults.push(format!(
                "{shown}: it is larger than {MAX_FILE_SIZE} bytes, which is the most that a file may have"
            ));
            return Ok(None);
        };
        self.size_total += data.len() as u64;
        if self.size_total > MAX_FILESYSTEM_SIZE {
            // Told as a whole; what comes is only counted.
            return Ok(Some((EntryKind::File, Bytes::new())));
        }
        Ok(Some((EntryKind::File, data)))
    }

    fn add(
        &mut self,
        parent: u64,
        path: &Path,
        kind: EntryKind,
        data: Bytes,
        metadata: &Metadata,
    ) -> u64 {
        let name = path.file_name().unwrap_or_default().as_bytes();
        self.version += 1;
        self.entries.push(Entry {
            inode: self.version,
            parent,
            version: self.version,
            writer: 0,
            mtime: metadata.modified().map_or(0, wrapped_seconds),
            size: u32::try_from(data.len()).expect("it is no larger than a file may be"),
            kind,
            name: Bytes::copy_from_slice(name),
            data,
        });
        self.version
    }

    fn check_totals(&mut self) {
        if self.size_total > MAX_FILESYSTEM_SIZE {
            self.faults.push(format!(
                "all files together have more than {MAX_FILESYSTEM_SIZE} bytes, which is the size of the filesystem"
            ));
        }
        // The root directory counts.
        if self.entries.len() as u64 >= MAX_INODE_COUNT {
            self.faults.push(format!(
                "there are more than {} files and directories, which is the most that the filesystem holds",
                MAX_INODE_COUNT - 1
            ));
        }
    }
}

/// The content of a directory, in order of names.
fn list(directory: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.metadata()?))
        })
        .collect()
}

/// The content of a file, unless it is too large.
pub(super) fn read_file(path: &Path) -> io::Result<Option<Bytes>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut content)?;
    Ok((content.len() as u64 <= MAX_FILE_SIZE).then(|| content.into()))
}
