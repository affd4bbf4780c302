//! What RRD values cost the threads that have them, and what the writer does with them meanwhile.
//!
//! `cargo run --release -p pmxcfs-rrd --example submit_cost [KEYS [ROUNDS]]`
//!
//! Submits one value of 21 columns for each of 2,000 guests per round, as a large cluster does every 10 seconds, first
//! with nobody at rrdcached's socket, then with a private rrdcached, and prints times and resident memory. A round is
//! submitted when the one before has been written.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pmxcfs_rrd::{RrdConfig, RrdWriter};

const FIRST_TIME: u64 = 1_700_000_040;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let key_count = numbers.next().transpose()?.unwrap_or(2000);
    let round_count = numbers.next().transpose()?.unwrap_or(5);

    let root = tempfile::tempdir()?;
    let (db, socket) = (root.path().join("db"), root.path().join("socket"));
    fs::create_dir(&db)?;

    println!("resident before                {:>9} kB", resident_kb()?);
    let start = Instant::now();
    let writer = RrdWriter::start(RrdConfig::new(db.clone(), socket.clone()))?;
    println!(
        "start of the writer            {:>9.3} ms",
        milliseconds(start)
    );
    println!("resident after start           {:>9} kB", resident_kb()?);

    println!("\nwritten directly; the first round creates the files");
    for round in 0..round_count {
        run_round(&writer, key_count, round)?;
    }
    println!("resident with librrd loaded    {:>9} kB", resident_kb()?);

    println!("\nthrough rrdcached");
    let mut rrdcached = Command::new("rrdcached")
        .args(["-g", "-w", "3600", "-f", "7200", "-l"])
        .arg(format!("unix:{}", socket.display()))
        .arg("-b")
        .arg(&db)
        .arg("-p")
        .arg(root.path().join("pid"))
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(&socket).is_err() && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(2));
    }
    for round in round_count..2 * round_count {
        run_round(&writer, key_count, round)?;
    }
    println!("{:?}", writer.stats());
    let unwritten = writer.stop(Instant::now() + Duration::from_secs(10));
    assert_eq!(unwritten, 0, "everything is written");
    rrdcached.kill()?;
    rrdcached.wait()?;
    Ok(())
}

fn run_round(writer: &RrdWriter, key_count: u64, round: u64) -> Result<(), Box<dyn Error>> {
    let time = FIRST_TIME + 10 * round;
    let samples: Vec<(String, String)> = (0..key_count)
        .map(|id| {
            let columns: Vec<String> = (0..17)
                .map(|column| (1000 * column + id).to_string())
                .collect();
            let value = format!("86400:guest{id}:running:0:{time}:{}\0", columns.join(":"));
            (format!("pve-vm-9.0/{}", 100 + id), value)
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for (key, value) in &samples {
        let before = Instant::now();
        writer.submit(key.as_bytes(), value.as_bytes());
        slowest = slowest.max(before.elapsed());
    }
    let submitted_ms = milliseconds(start);
    let deadline = Instant::now() + Duration::from_secs(120);
    while writer.stats().queued_count > 0 && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
    }
    if writer.stats().queued_count > 0 {
        return Err("not written in time".into());
    }
    println!(
        "{key_count} keys: submitted in {submitted_ms:.3} ms, slowest call {:.3} ms, written after {:.1} ms",
        slowest.as_secs_f64() * 1000.0,
        milliseconds(start),
    );
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn resident_kb() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
