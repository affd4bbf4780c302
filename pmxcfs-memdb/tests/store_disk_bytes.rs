//! How many bytes reach the disk: the C daemon wrote 604 MB for a file of 512,000 bytes made of 512-byte pieces, and
//! 336 MiB for 1 MiB in 4 KiB writes.
//!
//! Everything is in one test, since the kernel counts for the whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod store_support;

use store_support::{Fixture, PATIENCE, Place};

/// Bytes that this process caused to be written, from `/proc/self/io`.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap();
    line.parse().unwrap()
}

/// Bytes written for a file of `count` pieces of `size` bytes, until it is durable and the database closed.
fn cost(size: u32, count: u32) -> u64 {
    let place = Place::on_disk();
    let mut config = place.config();
    // The run directory is in memory; what goes there is not written to a disk.
    let run = Place::new();
    config.journal_dir = run.run();
    let fixture = Fixture::open(config);
    let file = fixture.create("file");
    fixture.sync().unwrap();
    let before = written();
    for piece in 0..count {
        fixture.write(file, piece * size, &vec![b'x'; size as usize]);
    }
    fixture.sync().unwrap();
    fixture.store.shutdown(PATIENCE);
    written() - before
}

#[test]
fn a_file_in_small_pieces_reaches_the_disk_a_few_times() {
    let measured = cost(131_072, 1);
    assert!(
        measured >= 131_072,
        "the kernel counted {measured} bytes for a file of 131072: the directory is on no disk, set TMPDIR"
    );
    let pieces = cost(512, 1000);
    assert!(
        pieces < 6_000_000,
        "512,000 bytes in pieces of 512 wrote {pieces}"
    );
    let pages = cost(4096, 256);
    assert!(pages < 8_000_000, "1 MiB in pieces of 4096 wrote {pages}");
}
