//! Reading and writing content.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

use integration_tests::{Check, Host};
use nix::errno::Errno;

const PAGE: usize = 4096;
const LIMIT: usize = 1024 * 1024;

/// A buffer whose first byte lies at the start of a page, so that requests are cut where the text says.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize, fill: impl Fn(usize) -> u8) -> Self {
        let mut memory = vec![0; length + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        for (position, byte) in memory[start..start + length].iter_mut().enumerate() {
            *byte = fill(position);
        }
        Self {
            memory,
            start,
            length,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

#[test]
fn long_writes_stop_at_the_limit() {
    let host = Host::new();
    let daemon = host.start();
    let data = Aligned::new(2 * LIMIT, |position| (position / 1000) as u8);
    let mut check = Check::new();

    let whole = File::create_new(host.path("whole")).unwrap();
    check.equal(
        "2 MiB from 0",
        whole.write_at(data.bytes(), 0).ok(),
        Some(LIMIT),
    );
    check.errno(
        "the next byte",
        Errno::EFBIG,
        whole.write_at(b"x", LIMIT as u64),
    );
    check.holds(
        "the content",
        fs::read(host.path("whole")).unwrap() == data.bytes()[..LIMIT],
    );

    let tail = File::create_new(host.path("tail")).unwrap();
    let written = tail.write_at(&data.bytes()[..400_000], 900_000);
    check.equal("400000 bytes from 900000", written.ok(), Some(131_072));
    check.equal("size", tail.metadata().unwrap().len(), 900_000 + 131_072);

    let last = File::create_new(host.path("last")).unwrap();
    check.equal(
        "the last byte",
        last.write_at(b"x", LIMIT as u64 - 1).ok(),
        Some(1),
    );
    check.equal(
        "truncate to exactly 1 MiB",
        last.set_len(LIMIT as u64).map_err(|error| error.kind()),
        Ok(()),
    );
    check.equal(
        "a write of nothing behind the end",
        last.write_at(b"", 2 * LIMIT as u64).ok(),
        Some(0),
    );
    drop(check);
    drop((whole, tail, last));
    daemon.stop();
}

#[test]
fn every_write_request_is_one_version() {
    let host = Host::new();
    let daemon = host.start();
    let data = Aligned::new(LIMIT, |_| 7);
    let file = File::create_new(host.path("f")).unwrap();
    let version = || {
        file.sync_all().unwrap();
        integration_tests::database::tree_version(&host.database())
    };
    let before = version();
    assert_eq!(file.write_at(data.bytes(), 0).unwrap(), LIMIT);
    assert_eq!(version() - before, 8, "requests carry up to 128 KiB");
    drop(file);
    daemon.stop();
}

#[test]
fn content_is_what_a_plain_buffer_would_be() {
    let host = Host::new();
    let daemon = host.start();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(host.path("f"))
        .unwrap();
    let mut model: Vec<u8> = Vec::new();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    for step in 0..400 {
        match next(5) {
            0 => {
                let length = next(20_000);
                file.set_len(length as u64).unwrap();
                model.resize(length, 0);
            }
            1 => {
                // To nothing and then longer: the new bytes are zeros, not the old ones.
                file.set_len(0).unwrap();
                let length = next(300);
                file.set_len(length as u64).unwrap();
                model = vec![0; length];
            }
            _ => {
                let (offset, length) = (next(20_000), next(9_000) + 1);
                let data = vec![step as u8; length];
                assert_eq!(file.write_at(&data, offset as u64).unwrap(), length);
                if model.len() < offset + length {
                    model.resize(offset + length, 0);
                }
                model[offset..offset + length].copy_from_slice(&data);
            }
        }
        assert_eq!(
            file.metadata().unwrap().len(),
            model.len() as u64,
            "size after step {step}"
        );
        assert!(
            fs::read(host.path("f")).unwrap() == model,
            "content after step {step}"
        );
    }
    drop(file);
    daemon.stop();
    let daemon = host.start();
    assert!(
        fs::read(host.path("f")).unwrap() == model,
        "content after a restart"
    );
    daemon.stop();
}

#[test]
fn truncating_an_empty_file_makes_zeros_that_last() {
    let host = Host::new();
    let daemon = host.start();
    for size in [1_u64, 8, 4096, 200_000, LIMIT as u64] {
        let path = host.path(size.to_string());
        File::create_new(&path).unwrap();
        nix::unistd::truncate(&path, size as i64).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![0; size as usize]);
    }
    daemon.stop();
    let daemon = host.start();
    for size in [1_usize, 8, 4096, 200_000, LIMIT] {
        assert_eq!(
            fs::read(host.path(size.to_string())).unwrap(),
            vec![0; size]
        );
    }
    daemon.stop();
}

#[test]
fn truncate_by_any_means_keeps_the_beginning() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "0123456789").unwrap();
    nix::unistd::truncate(&host.path("f"), 7).unwrap();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"0123456");
    OpenOptions::new()
        .write(true)
        .open(host.path("f"))
        .unwrap()
        .set_len(3)
        .unwrap();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"012");
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(host.path("f"))
        .unwrap();
    assert_eq!(fs::read(host.path("f")).unwrap(), b"");
    daemon.stop();
}

#[test]
fn reads_end_where_the_content_ends() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "content").unwrap();
    let file = File::open(host.path("f")).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 3);
    assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    // The size the kernel remembers does not limit what can be read.
    OpenOptions::new()
        .append(true)
        .open(host.path("f"))
        .unwrap()
        .write_all(b" and more")
        .unwrap();
    assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 9);
    daemon.stop();
}

#[test]
fn appends_of_several_writers_all_arrive() {
    const WRITERS: usize = 4;
    const LINES: usize = 200;
    let host = Host::new();
    let daemon = host.start();
    File::create_new(host.path("f")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut file = OpenOptions::new()
                .append(true)
                .open(host.path("f"))
                .unwrap();
            scope.spawn(move || {
                for line in 0..LINES {
                    file.write_all(format!("{writer} {line}\n").as_bytes())
                        .unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(host.path("f")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), WRITERS * LINES);
    daemon.stop();
}

#[test]
fn writers_of_one_file_do_not_mix() {
    let host = Host::new();
    let daemon = host.start();
    File::create_new(host.path("f")).unwrap();
    std::thread::scope(|scope| {
        for writer in *b"ab" {
            let host = &host;
            scope.spawn(move || {
                let data = vec![writer; 600_000];
                let file = OpenOptions::new().write(true).open(host.path("f")).unwrap();
                for _ in 0..20 {
                    file.write_all_at(&data, 0).unwrap();
                }
            });
        }
    });
    let content = fs::read(host.path("f")).unwrap();
    assert_eq!(content.len(), 600_000);
    assert!(
        content.iter().all(|byte| *byte == content[0]),
        "one write(2) is not torn by another"
    );
    daemon.stop();
}

#[test]
fn a_full_filesystem_refuses_instead_of_losing() {
    let host = Host::new();
    let daemon = host.start();
    let data = vec![1; LIMIT];
    let mut stored = 0;
    let refusal = loop {
        match fs::write(host.path(format!("f{stored}")), &data) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored <= 128, "more than 128 MiB were taken");
    };
    assert_eq!(refusal.kind(), ErrorKind::StorageFull);
    assert!(stored >= 127, "refused after {stored} MiB");
    let free = nix::sys::statvfs::statvfs(&host.mount_dir())
        .unwrap()
        .blocks_free();
    assert!(free <= 32_768, "statfs never wraps: {free}");
    fs::remove_file(host.path("f0")).unwrap();
    fs::write(host.path("again"), &data[..LIMIT / 2]).unwrap();
    daemon.stop();
}
