//! What the store costs: bytes that reach the disk, and time per operation.
//!
//! `cargo run --release -p pmxcfs-memdb --example store_cost [DIRECTORY [JOURNAL_DIRECTORY]]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

#[path = "../tests/store_support/mod.rs"]
mod store_support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmxcfs_memdb::EntryKind;
use pmxcfs_memdb::store::{Store, StoreConfig};
use store_support::{Fixture, wait};

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let directory = arguments.next().unwrap_or_else(std::env::temp_dir);
    let journal = arguments
        .next()
        .unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let run = |name: &str, work: &dyn Fn(&StoreConfig)| {
        let directory = tempfile::tempdir_in(&directory).unwrap();
        let journal = tempfile::tempdir_in(&journal).unwrap();
        let config = StoreConfig::new(directory.path().join("config.db"), journal.path());
        println!("{name}");
        work(&config);
    };
    run("open a new database", &|config| {
        let started = Instant::now();
        let _opened = Store::open(config.clone()).unwrap();
        println!("  {:?}", started.elapsed());
    });
    run("1000 appends of 512 bytes, one writer", &|config| {
        pieces(config, 512, 1000, Duration::ZERO)
    });
    run("1000 appends of 512 bytes, 80 us apart", &|config| {
        pieces(config, 512, 1000, Duration::from_micros(80));
    });
    run("1 MiB in 4 KiB writes, 1 ms apart", &|config| {
        pieces(config, 4096, 256, Duration::from_millis(1))
    });
    run("1 MiB in 4 KiB writes, 20 ms apart", &|config| {
        pieces(config, 4096, 256, Duration::from_millis(20))
    });
    run("100000 overwrites of 4 KiB", &overwrites);
    run(
        "60 rewrites of 1 MiB, 100 ms apart, with a reader",
        &with_reader,
    );
    run("9000 files of 2 KiB", &many_files);
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap();
    line.parse().unwrap()
}

fn report(before: u64, started: Instant, elapsed: Duration, fixture: &Fixture) {
    wait(|done| fixture.store.sync(done)).unwrap();
    let stats = fixture.store.stats();
    fixture.store.shutdown(Duration::from_secs(10));
    println!(
        "  {elapsed:?} to acknowledge, {:?} until closed, {} KiB written, {} commits, log {} KiB",
        started.elapsed(),
        (written() - before) / 1024,
        stats.commit_count,
        stats.log_size_bytes / 1024,
    );
}

fn pause(duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn pieces(config: &StoreConfig, size: u32, count: u32, gap: Duration) {
    let fixture = Fixture::open(config.clone());
    let file = fixture.create("file");
    fixture.sync().unwrap();
    let (before, started) = (written(), Instant::now());
    for piece in 0..count {
        fixture.write(file, piece * size, &vec![b'x'; size as usize]);
        pause(gap);
    }
    let elapsed = started.elapsed();
    report(before, started, elapsed, &fixture);
}

fn overwrites(config: &StoreConfig) {
    let fixture = Fixture::open(config.clone());
    let file = fixture.create("file");
    let data = [b'x'; 4096];
    let (before, started) = (written(), Instant::now());
    for _ in 0..100_000 {
        fixture.write(file, 0, &data);
    }
    let elapsed = started.elapsed();
    println!("  {:.0} operations/s", 100_000.0 / elapsed.as_secs_f64());
    report(before, started, elapsed, &fixture);
}

fn with_reader(config: &StoreConfig) {
    let fixture = Fixture::open(config.clone());
    let file = fixture.create("file");
    fixture.sync().unwrap();
    let reader = rusqlite::Connection::open(&config.database).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM tree").unwrap();
    let (before, started) = (written(), Instant::now());
    for round in 0..60_u8 {
        for piece in 0..8 {
            fixture.write(file, piece * 131_072, &vec![round; 131_072]);
        }
        pause(Duration::from_millis(100));
    }
    let elapsed = started.elapsed();
    report(before, started, elapsed, &fixture);
}

fn many_files(config: &StoreConfig) {
    let fixture = Fixture::open(config.clone());
    let (before, started) = (written(), Instant::now());
    for index in 0..9000 {
        let ((), ticket) = fixture.record(|state| {
            let (inode, mut changes) =
                state.create(format!("file{index}").as_bytes(), EntryKind::File);
            changes.extend(state.write(inode, 0, &[b'x'; 2048], false));
            ((), changes)
        });
        fixture.wait(ticket).unwrap();
    }
    let elapsed = started.elapsed();
    report(before, started, elapsed, &fixture);
    for _ in 0..3 {
        load(&config.database, config);
    }
}

fn load(database: &Path, config: &StoreConfig) {
    let started = Instant::now();
    let (_store, loaded) = Store::open(config.clone()).unwrap();
    println!(
        "  {:?} to load {} entries, {} KiB",
        started.elapsed(),
        loaded.entries.len(),
        std::fs::metadata(database).unwrap().len() / 1024
    );
}
