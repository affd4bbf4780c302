//! Where each entry of a save goes.
//!
//! A name may be any bytes, so what is not harmless in a shell or on a terminal is written as `%XX`. What has no place of its
//! own by that is marked with `%~`, which no escaping makes: entries that would have the same place with their inodes, names
//! that are too long for a filesystem with a checksum.

use std::fmt::Write as _;
use std::path::PathBuf;

use pmxcfs_api_types::path;

/// Longest name of a file, with room for the marks.
const NAME_LENGTH: usize = 200;

/// Longest path inside of a save.
const PATH_LENGTH: usize = 2000;

/// Tells entries apart that would have the same place.
pub(super) fn mark(inode: u64) -> String {
    format!("%~{inode}")
}

/// Where an entry goes, relative to the directory for files.
pub(super) fn place(path: &[u8], inode: u64) -> PathBuf {
    let place: PathBuf = path::components(path).map(escape).collect();
    match place.as_os_str().len() {
        1..=PATH_LENGTH => place,
        _ => PathBuf::from(mark(inode)),
    }
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
