//! Status operations in a large cluster: many guests, many RRD values.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::{Host, IpcClient, wait};

use crate::fleet;
use crate::ipc::EchoServer;
use crate::pairs::{self, Row};
use crate::report::{Figure, Report, median};

const GUEST_COUNT: u32 = 10_000;
const FIRST_GUEST: u32 = 100;

/// Ten times what the C daemon manages.
const LOCK_RATE_BAR: f64 = 1650.0;
const LOCK_CLIENT_COUNT: u32 = 8;
const ROUND_COUNT: usize = 5;
/// Pause between two writes of the trickle.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);

/// No slower, as far as the median of a few rounds can tell on a shared machine.
const EQUAL_PERCENT: u32 = 90;

const RRD_KEY_COUNT: u32 = 2_000;
const RRD_INTERVAL: Duration = Duration::from_secs(10);
const RRD_ROUND_COUNT: i64 = 2;
const RRD_CPU_BAR_PERCENT: f64 = 5.0;

/// Measures everything and reports it.
pub(crate) fn run(report: &mut Report) -> io::Result<()> {
    guests(report)?;
    rrd_values(report)
}

fn guests(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    make_guests(&host)?;
    let host = &host;
    let rate = |operation: &str, count: u32| {
        fleet::rate(count, &["ipc-worker", operation, host.service()])
    };

    report.line(&format!(
        "\n{GUEST_COUNT} guests of 8 lines: requests per second over IPC (C daemon: 165 for all guests)"
    ))?;
    let mut rates = Vec::new();
    for _ in 0..ROUND_COUNT {
        rates.push(rate("lock-all", LOCK_CLIENT_COUNT)?);
    }
    at_least(report, "op 11, lock of all guests", median(&mut rates))?;
    let mut rates = Vec::new();
    let written_count = while_written(host, || {
        for _ in 0..ROUND_COUNT {
            rates.push(rate("lock-all", LOCK_CLIENT_COUNT)?);
        }
        Ok(())
    })?;
    let what = format!(
        "the same, a config written every {} ms",
        WRITE_INTERVAL.as_millis()
    );
    at_least(report, &what, median(&mut rates))?;
    report.line(&format!("  ({written_count} writes meanwhile)"))?;

    report.line("\nrequests per second over IPC: op 1, then the operation")?;
    for process_count in [1, LOCK_CLIENT_COUNT] {
        let row = Row {
            operation: "op 11, lock of one guest",
            process_count,
            bar_percent: EQUAL_PERCENT,
        };
        pairs::compare(
            report,
            &row,
            || rate("version", process_count),
            || rate("lock-one", process_count),
        )?;
    }

    report.line(
        "\nrequests per second over IPC, against libqb's own server with answers of the same size",
    )?;
    let list_size = host.ipc().guests()?.len();
    let floor = EchoServer::start(list_size)?;
    for process_count in [1, LOCK_CLIENT_COUNT] {
        let operation = format!("op 3, guest list of {} KB", list_size / 1000);
        let row = Row {
            operation: &operation,
            process_count,
            bar_percent: 80,
        };
        pairs::compare(
            report,
            &row,
            || fleet::rate(process_count, &["ipc-worker", "guests", &floor.service]),
            || rate("guests", process_count),
        )?;
    }
    daemon.stop();
    Ok(())
}

fn at_least(report: &mut Report, what: &str, rate: f64) -> io::Result<()> {
    report.mark(
        rate >= LOCK_RATE_BAR,
        Figure::rate(what, rate),
        &format!("{what:<42} x{LOCK_CLIENT_COUNT} {rate:>9.0} /s  (>= {LOCK_RATE_BAR} /s)"),
    )
}

fn config(vmid: u32, round: u32) -> String {
    // One guest in a hundred is locked.
    let last = match vmid % 100 {
        0 => "lock: backup",
        _ => "onboot: 1",
    };
    format!(
        "boot: order=scsi0\ncores: 2\nmemory: {}\nname: guest{vmid}\nostype: l26\n\
         net0: virtio=BC:24:11:00:00:00,bridge=vmbr0\nscsi0: local-lvm:vm-{vmid}-disk-0,size=32G\n{last}\n",
        1024 + round
    )
}

/// Makes the configurations of [`GUEST_COUNT`] guests.
pub(crate) fn make_guests(host: &Host) -> io::Result<()> {
    let directory = host.path("nodes/node1/qemu-server");
    fs::create_dir_all(&directory)?;
    for vmid in FIRST_GUEST..FIRST_GUEST + GUEST_COUNT {
        fs::write(directory.join(format!("{vmid}.conf")), config(vmid, 0))?;
    }
    Ok(())
}

/// Overwrites one config after the other while `work` runs; gives the number of writes.
fn while_written(host: &Host, work: impl FnOnce() -> io::Result<()>) -> io::Result<u32> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> io::Result<u32> {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let vmid = FIRST_GUEST + count % GUEST_COUNT;
                let path = host.path(format!("nodes/node1/qemu-server/{vmid}.conf"));
                fs::write(path, config(vmid, count))?;
                count += 1;
                thread::park_timeout(WRITE_INTERVAL);
            }
            Ok(count)
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        let count = writer.join().map_err(|_panic| io::ErrorKind::Other)??;
        result.map(|()| count)
    })
}

fn rrd_values(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let rrd_dir = host.root().join("var/lib/rrdcached/db");
    fs::create_dir_all(&rrd_dir)?;
    let daemon = host.start();
    let mut client = host.ipc();
    report.line(&format!(
        "\n{RRD_KEY_COUNT} RRD values every {} s over IPC, written directly",
        RRD_INTERVAL.as_secs()
    ))?;
    let now_secs = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(io::Error::other)?
        .as_secs();
    let base_secs = i64::try_from(now_secs).map_err(io::Error::other)?;
    set_values(&mut client, base_secs)?;
    let last_file = rrd_dir.join(format!(
        "pve-storage-9.0/node1/storage{}",
        RRD_KEY_COUNT - 1
    ));
    wait::until("all files", Duration::from_secs(120), || {
        last_file.exists().then_some(())
    });
    let (start, before) = (Instant::now(), runtime_cpu(daemon.pid())?);
    for round in 1..=RRD_ROUND_COUNT {
        set_values(&mut client, base_secs + 10 * round)?;
        let rounds = u32::try_from(round).map_err(io::Error::other)?;
        while let Some(rest) = (RRD_INTERVAL * rounds).checked_sub(start.elapsed()) {
            thread::park_timeout(rest);
        }
    }
    let used = runtime_cpu(daemon.pid())?.saturating_sub(before);
    let share = 100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64();
    daemon.stop();
    report.below(
        "processor time of all threads but rrd, of one core",
        share,
        RRD_CPU_BAR_PERCENT,
        "%",
    )
}

fn set_values(client: &mut IpcClient, time: i64) -> io::Result<()> {
    for number in 0..RRD_KEY_COUNT {
        let key = format!("rrd/pve-storage-9.0/node1/storage{number}");
        client.set_status(&key, format!("{time}:1000000:{number}\0").as_bytes())?;
    }
    Ok(())
}

/// Processor time that the threads other than the RRD writer have used.
fn runtime_cpu(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim_end() == "rrd" {
            continue;
        }
        let schedstat = fs::read_to_string(task.join("schedstat"))?;
        let used = schedstat
            .split(' ')
            .next()
            .and_then(|field| field.parse::<u64>().ok());
        nanos += used.ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(Duration::from_nanos(nanos))
}
