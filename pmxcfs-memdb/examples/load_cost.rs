//! What a start costs: time until the tree is there, and memory of the process then.
//!
//! `cargo run --release -p pmxcfs-memdb --example load_cost [ENTRIES [CONTENT_SIZE]]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmxcfs_memdb::store::{Store, StoreConfig, create};
use pmxcfs_memdb::{Entry, EntryKind, MemDb, RootState, Rules, Tree};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, database] = &arguments[..]
        && flag == "--load"
    {
        return load(Path::new(database));
    }
    let number = |index: usize| arguments.get(index).map(|text| text.parse().unwrap());
    let (count, size) = (number(0).unwrap_or(100_000), number(1).unwrap_or(620));
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("config.db");
    create_database(&database, count, size);
    for _ in 0..3 {
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).arg("--load").arg(&database).status();
        assert!(status.unwrap().success());
    }
}

/// Files in directories of 100.
fn create_database(database: &Path, count: u64, size: u64) {
    let entry = |inode, parent, kind, name: String, data: Vec<u8>| Entry {
        inode,
        parent,
        version: inode,
        writer: 1,
        mtime: 1_800_000_000,
        size: u32::try_from(data.len()).unwrap(),
        kind,
        name: name.into(),
        data: Bytes::from(data),
    };
    let mut entries = Vec::new();
    let mut parent = 0;
    for inode in 2..count + 2 {
        if inode % 100 == 2 {
            parent = inode;
            let name = format!("directory-{inode}");
            entries.push(entry(inode, 0, EntryKind::Directory, name, Vec::new()));
        } else {
            let data = vec![b'x'; usize::try_from(size).unwrap()];
            let name = format!("file-{inode}.conf");
            entries.push(entry(inode, parent, EntryKind::File, name, data));
        }
    }
    let root = RootState {
        version: count + 2,
        writer: 1,
        mtime: 1_800_000_000,
    };
    create(database, root, &entries).unwrap();
}

fn load(database: &Path) {
    let started = Instant::now();
    let (store, loaded) = Store::open(StoreConfig::new(
        database,
        pmxcfs_api_types::files::directory_of(database),
    ))
    .unwrap();
    let opened = started.elapsed();
    let tree = Tree::from_entries(loaded.root, loaded.entries, Rules::Local, 0).unwrap();
    let count = tree.entry_count();
    let db = MemDb::new(tree, started);
    db.start_store(store).unwrap();
    let elapsed = started.elapsed();
    println!(
        "{count} entries: rows {opened:?}, with the tree {elapsed:?}, processor {} ms, VmRSS {} KiB, VmHWM {} KiB",
        processor_ms(),
        status("VmRSS:"),
        status("VmHWM:"),
    );
    db.shutdown(Duration::from_secs(10));
}

/// Processor time of this process, which other processes do not disturb.
fn processor_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
