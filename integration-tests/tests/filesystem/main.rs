//! The mounted filesystem as programs see it, in local mode.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what does not hold here fails the test"
)]

mod access;
mod attributes;
mod concurrency;
mod data;
mod errnos;
mod guests;
mod handles;
mod locks;
mod plugins;
mod tools;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Permission bits, of the link itself for links.
fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::symlink_metadata(path)?.mode() & 0o7777)
}

/// Names in a directory, sorted, without the dots.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes directories, parents included, in a mounted filesystem.
fn make_directories(mount_dir: &Path, directories: &[&str]) {
    for directory in directories {
        fs::create_dir_all(mount_dir.join(directory)).unwrap();
    }
}
