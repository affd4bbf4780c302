//! Entries that a synchronisation removed from this node, kept as plain files for the operator.
//!
//! When the sides of a partition come together again, one side's data count and the other's are replaced. What was only on
//! the losing side may be all there is of somebody's work, so it is put into a directory before it is forgotten. It is
//! neither read again nor replicated, and takes a bounded part of the disk.
//!
//! ```text
//! DIRECTORY/20261123-044928Z/INDEX         one line for each entry
//! DIRECTORY/20261123-044928Z/files/...     contents, under the paths that they had
//! ```
//!
//! Everything is for root only, since private files are among it.

mod place;

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use nix::unistd::syncfs;
use pmxcfs_api_types::files::{create_private, sync_directory_of, with_suffix};
use pmxcfs_api_types::time::utc;

use super::error::{StoreError, cannot};
use crate::Entry;
use place::{mark, place};

/// How many saves are kept.
const SAVE_COUNT: usize = 8;

/// Most bytes of content in one save.
const SAVE_SIZE: u64 = 32 * 1024 * 1024;

/// Most files in one save.
const SAVE_FILE_COUNT: usize = 4096;

/// List of the entries of a save.
const INDEX: &str = "INDEX";

/// A file of this name in a save says that somebody knows of it.
pub const ACKNOWLEDGED: &str = "ACKNOWLEDGED";

/// Prefix of a save that is not complete.
const PARTIAL: &str = ".partial-";

/// An entry that a sync removed or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Its path, relative to the root.
    pub path: Bytes,
    /// The entry.
    pub entry: Entry,
}

/// A save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The new directory.
    pub directory: PathBuf,
    /// Number of entries whose content is in it.
    pub kept_count: usize,
    /// Number of entries that are only named in it, since there is a limit to its size.
    pub left_out_count: usize,
}

fn at<E: Into<Box<dyn Error + Send + Sync>>>(path: &Path) -> impl FnOnce(E) -> StoreError {
    cannot("keep discarded entries in", path)
}

/// Puts entries into a new directory inside of `directory`, which is made if it is missing, and removes the oldest of them
/// if there are more than eight. When this returns the files are on the disk; until then they have another name. `now_secs`
/// is the wall clock's time and becomes the name. For a thread that may wait for a disk.
///
/// At most 4096 files and 32 MiB are kept; of what does not fit there is the line in `INDEX`. `None` if there is nothing to
/// keep.
///
/// # Errors
/// [`StoreError`]. Nothing new is left behind then.
pub fn save_discarded(
    directory: &Path,
    entries: &[Discarded],
    now_secs: u32,
) -> Result<Option<Saved>, StoreError> {
    if entries.is_empty() {
        return Ok(None);
    }
    make_directory(directory)?;
    remove_partial(directory);
    let (name, target) = free_name(directory, now_secs);
    let partial = directory.join(format!("{PARTIAL}{name}"));
    let written = write(&partial, entries).and_then(|counts| {
        fs::rename(&partial, &target)
            .and_then(|()| sync_directory_of(&target))
            .map_err(at(&target))?;
        Ok(counts)
    });
    let (kept_count, left_out_count) = match written {
        Ok(counts) => counts,
        Err(error) => {
            remove_partial(directory);
            return Err(error);
        }
    };
    remove_oldest(directory);
    Ok(Some(Saved {
        directory: target,
        kept_count,
        left_out_count,
    }))
}

/// The saves that nobody has acknowledged, the oldest first, with the paths of their entries, escaped.
pub fn unacknowledged_saves(directory: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let mut saves = names(directory);
    saves.retain(|name| is_stamp(name));
    saves.sort_unstable();
    let saves = saves.into_iter().map(|name| directory.join(name));
    saves
        .filter(|save| !save.join(ACKNOWLEDGED).exists())
        .map(|save| {
            let index = fs::read_to_string(save.join(INDEX)).unwrap_or_default();
            let lines = index.lines().filter(|line| !line.starts_with('#'));
            let paths =
                lines.filter_map(|line| Some(line.splitn(7, ' ').nth(6)?.rsplit_once(" -> ")?.0));
            let paths = paths.map(ToOwned::to_owned).collect();
            (save, paths)
        })
        .collect()
}

/// Writes a save, and has it on the disk. Returns how many entries have their content in it, and how many do not.
fn write(save: &Path, entries: &[Discarded]) -> Result<(usize, usize), StoreError> {
    let files = save.join("files");
    make_directory(&files)?;
    // Tells of all that fails to reach the disk from now on.
    let disk = File::open(save).map_err(at(save))?;
    let places: Vec<PathBuf> = entries
        .iter()
        .map(|discarded| files.join(place(&discarded.path, discarded.entry.inode)))
        .collect();
    // All before the first file, so that no file is in the way of a directory.
    for (discarded, place) in entries.iter().zip(&places) {
        make_directory(match discarded.entry.is_directory() {
            true => place,
            false => place.parent().unwrap_or(&files),
        })?;
    }
    let mut index = String::from(
        "# Entries of this node that a synchronisation replaced or removed. Times are seconds since 1970.\n\
         # inode version writer mtime size kind path -> file\n",
    );
    let mut room = SAVE_SIZE;
    let (mut kept_count, mut left_out_count, mut file_count) = (0, 0, 0);
    for (discarded, mut place) in entries.iter().zip(places) {
        let entry = &discarded.entry;
        let size = u64::from(entry.size);
        let is_kept = entry.is_directory() || (size <= room && file_count < SAVE_FILE_COUNT);
        if is_kept {
            kept_count += 1;
        } else {
            left_out_count += 1;
        }
        if is_kept && !entry.is_directory() {
            room -= size;
            file_count += 1;
            place = write_file(place, entry)?;
        }
        let place = place.strip_prefix(save).unwrap_or(&place);
        add_line(&mut index, discarded, is_kept.then_some(place));
    }
    let index_path = save.join(INDEX);
    create_private(&index_path)
        .and_then(|mut file| file.write_all(index.as_bytes()))
        .and_then(|()| Ok(syncfs(&disk)?))
        .map_err(at(&index_path))?;
    Ok((kept_count, left_out_count))
}

fn add_line(index: &mut String, discarded: &Discarded, place: Option<&Path>) {
    let entry = &discarded.entry;
    let kind = if entry.is_directory() {
        "directory"
    } else {
        "file"
    };
    let path = discarded.path.escape_ascii();
    // Writing to a string does not fail.
    let _result = write!(
        index,
        "{} {} {} {} {} {kind} {path} -> ",
        entry.inode, entry.version, entry.writer, entry.mtime, entry.size
    );
    let _result = match place {
        Some(place) => writeln!(index, "{}", place.display()),
        None => writeln!(index, "not kept, there is too much"),
    };
}

/// Writes a file, at another place if there is something. Returns where.
fn write_file(mut place: PathBuf, entry: &Entry) -> Result<PathBuf, StoreError> {
    let made = create_private(&place).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            place = with_suffix(&place, mark(entry.inode));
            create_private(&place)
        }
        _ => Err(error),
    });
    let modified = UNIX_EPOCH + Duration::from_secs(u64::from(entry.mtime));
    let written = made.and_then(|mut file| {
        file.write_all(&entry.content())?;
        file.set_modified(modified)
    });
    written.map_err(at(&place))?;
    Ok(place)
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(at(path))
}

/// The first name of this moment that is not taken, and its path.
fn free_name(directory: &Path, now_secs: u32) -> (String, PathBuf) {
    let stamp = utc(now_secs).replace(['-', ':'], "").replace('T', "-");
    let mut name = stamp.clone();
    for attempt in 1.. {
        if !directory.join(&name).exists() {
            break;
        }
        name = format!("{stamp}-{attempt:03}");
    }
    let path = directory.join(&name);
    (name, path)
}

/// Removes what a process left that died while it saved.
fn remove_partial(directory: &Path) {
    for name in names(directory) {
        if name.strip_prefix(PARTIAL).is_some_and(is_stamp) {
            // It takes space and does no other harm; the next save tries again.
            let _result = fs::remove_dir_all(directory.join(name));
        }
    }
}

fn remove_oldest(directory: &Path) {
    let mut saves = names(directory);
    saves.retain(|name| is_stamp(name));
    saves.sort_unstable();
    let surplus = saves.len().saturating_sub(SAVE_COUNT);
    for name in saves.drain(..surplus) {
        // As above.
        let _result = fs::remove_dir_all(directory.join(name));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Whether a name is that of a save: a date in UTC, with or without a number behind it.
fn is_stamp(name: &str) -> bool {
    let shape: String = name
        .chars()
        .map(|character| match character {
            '0'..='9' => '0',
            other => other,
        })
        .collect();
    shape == "00000000-000000Z" || shape == "00000000-000000Z-000"
}

#[cfg(test)]
mod tests {
    use super::is_stamp;

    #[test]
    fn other_names_are_no_stamps() {
        for name in [
            "",
            "INDEX",
            "19700101-000000",
            "1970010a-000000Z",
            "19700101-000000Z-1",
        ] {
            assert!(!is_stamp(name), "{name}");
        }
        assert!(is_stamp("19700101-000000Z"));
        assert!(is_stamp("19700101-000000Z-012"));
    }
}
