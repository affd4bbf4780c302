//! Figures that have a bar of their own: bytes written, start, memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::Instant;

use integration_tests::{Host, proc};

use crate::processor::OneProcessor;
use crate::report::{Report, median};

const MEGA: f64 = 1_000_000.0;
const GUEST_FILE_COUNT: usize = 9_000;
const GUEST_FILE_SIZE: usize = 2 * 1024;
const DIRECTORY_COUNT: usize = 90;
/// Rounds of each row. Odd, so that the median is a round that happened.
const ROUND_COUNT: usize = 5;
const START_COUNT: usize = 7;

/// Measures everything and reports it.
pub(crate) fn run(report: &mut Report) -> io::Result<()> {
    report.line("\nbytes written to disk, until they are safe there (C daemon: 604 MB and 2.5 s for the first)")?;
    sequential(
        report,
        "500 KiB in pieces of 512 bytes",
        512,
        1000,
        6.0,
        83.0,
    )?;
    sequential(report, "1 MiB in pieces of 4 KiB", 4096, 256, 8.0, 83.0)?;
    report.line("\nstart and memory")?;
    empty_start(report)?;
    full_start(report)
}

fn sequential(
    report: &mut Report,
    what: &str,
    piece_size: usize,
    piece_count: usize,
    megabytes_bar: f64,
    time_bar_ms: f64,
) -> io::Result<()> {
    let (mut sizes, mut times) = (Vec::new(), Vec::new());
    for _ in 0..ROUND_COUNT {
        let host = Host::with_run_directory_in_ram();
        let daemon = host.start();
        let one = OneProcessor::with(&[daemon.pid()])?;
        let piece = vec![b'x'; piece_size];
        let before = proc::written_bytes(daemon.pid());
        let start = Instant::now();
        let mut file = File::create(host.path("file"))?;
        for _ in 0..piece_count {
            file.write_all(&piece)?;
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        file.sync_all()?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        sizes.push((proc::written_bytes(daemon.pid()) - before) as f64 / MEGA);
        drop((file, one));
        daemon.stop();
    }
    report.below(
        &format!("{what}: written"),
        median(&mut sizes),
        megabytes_bar,
        "MB",
    )?;
    report.below(
        &format!("{what}: time of the writes"),
        median(&mut times),
        time_bar_ms,
        "ms",
    )
}

fn empty_start(report: &mut Report) -> io::Result<()> {
    let mut times = Vec::new();
    for _ in 0..START_COUNT {
        let host = Host::with_run_directory_in_ram();
        let daemon = host.start();
        times.push(daemon.age().as_secs_f64() * 1000.0);
        daemon.stop();
    }
    report.below(
        "start without a database, to the first answer",
        median(&mut times),
        50.0,
        "ms",
    )
}

fn full_start(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let content = vec![b'c'; GUEST_FILE_SIZE];
    for directory in 0..DIRECTORY_COUNT {
        let directory = host.path(format!("dir{directory}"));
        fs::create_dir(&directory)?;
        for number in 0..GUEST_FILE_COUNT / DIRECTORY_COUNT {
            fs::write(directory.join(format!("file{number}.cfg")), &content)?;
        }
    }
    daemon.stop();
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..START_COUNT {
        let daemon = host.start();
        times.push(daemon.age().as_secs_f64() * 1000.0);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        sizes.push(proc::resident_bytes(daemon.pid()) as f64 / MEGA);
        daemon.stop();
    }
    report.below(
        "start with 9000 files of 2 KiB, to the first answer",
        median(&mut times),
        100.0,
        "ms",
    )?;
    report.below(
        "resident memory with these files",
        median(&mut sizes),
        35.0,
        "MB",
    )
}
