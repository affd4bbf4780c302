//! Where each entry of a save goes.
//!
//! A name may be any bytes, so what is not harmless in a shell or on a terminal is written as `%XX`. What has no place of its
//! own by that is marked with `%~`, which no escaping makes: entries that would have the same place with their inodes, names
//! that are too long for a filesystem with a checksum.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use pmxcfs_api_types::path;

use crate::Entry;

/// Longest name of a file, with room for the marks.
const NAME_LENGTH: usize = 200;

/// Longest path inside of a save.
const PATH_LENGTH: usize = 2000;

/// An entry that a sync removed or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Its path, relative to the root.
    pub path: Bytes,
    /// The entry.
    pub entry: Entry,
}

/// Where each entry of a save goes, relative to the directory for files.
pub(super) struct Layout {
    /// Directories to be made, each before those in it.
    pub(super) directories: BTreeSet<PathBuf>,
    /// One place for each entry, in their order.
    pub(super) places: Vec<PathBuf>,
}

impl Layout {
    pub(super) fn new(entries: &[Discarded]) -> Self {
        let wanted: Vec<PathBuf> = entries.iter().map(place).collect();
        let mut directories = BTreeSet::new();
        for (discarded, place) in entries.iter().zip(&wanted) {
            let own = discarded.entry.is_directory().then_some(place.as_path());
            let above = place.ancestors().skip(1);
            let all = own.into_iter().chain(above);
            let all = all.filter(|path| !path.as_os_str().is_empty());
            directories.extend(all.map(ToOwned::to_owned));
        }
        let mut taken = HashSet::new();
        let places = entries.iter().zip(wanted).map(|(discarded, mut place)| {
            let is_directory = discarded.entry.is_directory();
            if !is_directory && (directories.contains(&place) || !taken.insert(place.clone())) {
                place.as_mut_os_string().push(mark(&discarded.entry));
            }
            place
        });
        let places = places.collect();
        Self {
            directories,
            places,
        }
    }
}

fn mark(entry: &Entry) -> String {
    format!("%~{}", entry.inode)
}

fn place(discarded: &Discarded) -> PathBuf {
    let entry = &discarded.entry;
    let names = path::components(&discarded.path);
    let place: PathBuf = names.map(escape).collect();
    let length = place.as_os_str().len();
    if length == 0 || length > PATH_LENGTH {
        return PathBuf::from(mark(entry));
    }
    place
}

fn escape(name: &[u8]) -> String {
    let mut escaped = String::with_capacity(name.len());
    let is_link = matches!(name, b"." | b"..");
    for byte in name {
        if byte.is_ascii_alphanumeric() || (b"-_.+@:=,".contains(byte) && !is_link) {
            escaped.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _result = write!(escaped, "%{byte:02X}");
        }
    }
    if escaped.len() > NAME_LENGTH {
        escaped.truncate(NAME_LENGTH);
        let _result = write!(escaped, "%~{:08x}", crc32fast::hash(name));
    }
    escaped
}
