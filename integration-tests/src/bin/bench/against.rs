//! This build's daemon beside another one, such as that of an earlier commit: every row of the bench that is a rate.
//!
//! Both run all the time, each on its own host; rounds alternate. A row keeps the bar if the 90 % interval of the median of
//! its ratios reaches it, so that noise alone fails no row.

use std::fs;
use std::io;
use std::path::Path;

use integration_tests::{Daemon, Host};

use crate::fleet;
use crate::pairs::{Pairs, Row};
use crate::report::{Figure, Report, median};
use crate::status;
use crate::workload::{self, PROCESS_COUNTS, WORKLOADS, Workload};

/// Rounds per row.
const ROUND_COUNT: usize = 9;
/// With nine rounds, the median of what is measured lies between the second and the last but one in 96 of 100 cases.
const BEYOND_INTERVAL: usize = 1;

const BAR_PERCENT: u32 = 95;
/// For what the design pays for lower latency: large answers to many clients, and very many clients.
const CROWD_BAR_PERCENT: u32 = 85;

const LARGE_SIZE: usize = 256 * 1024;

/// Operation of [`crate::ipc::request`], what it is, numbers of clients.
const IPC_ROWS: [(&str, &str, &[u32]); 6] = [
    ("version", "op 1, version document", &[1, 8, 64]),
    ("config", "op 6, file of 1 KiB", &[1, 8, 64]),
    ("config-large", "op 6, file of 256 KiB", &[1, 8]),
    ("guests", "op 3, list of 10,000 guests", &[1, 8]),
    ("lock-one", "op 11, lock of one guest", &[1, 8]),
    ("lock-all", "op 11, lock of all guests", &[1, 8]),
];

/// Measures all rows, or those of one workload, against the daemon that `program` is.
pub(crate) fn run(report: &mut Report, program: &Path, only: Option<&str>) -> io::Result<()> {
    report.line(&format!(
        "operations per second, against {}",
        program.display()
    ))?;
    report.line(&format!(
        "{:<36} {:>9} {:>9}   {:>7}   90 % interval",
        "", "other", "this", "ratio"
    ))?;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    for workload in WORKLOADS.iter().filter(|workload| wanted(workload.name)) {
        measure_workload(report, program, workload)?;
    }
    if wanted("ipc") {
        measure_ipc(report, program)?;
    }
    Ok(())
}

fn hosts(program: &Path) -> [Host; 2] {
    [
        Host::with_run_directory_in_ram().with_program(program),
        Host::with_run_directory_in_ram(),
    ]
}

fn measure_workload(report: &mut Report, program: &Path, workload: &Workload) -> io::Result<()> {
    let hosts = hosts(program);
    let daemons = hosts.each_ref().map(Host::start);
    for host in &hosts {
        workload::prepare(&host.mount_dir())?;
    }
    for process_count in PROCESS_COUNTS {
        let row = Row {
            operation: workload.operation,
            process_count,
            bar_percent: BAR_PERCENT,
        };
        measure(report, &row, &hosts, |host| {
            let mount_dir = host.mount_dir();
            let mount_dir = mount_dir.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            fleet::rate(process_count, &["worker", workload.name, mount_dir])
        })?;
    }
    stop(daemons);
    Ok(())
}

fn measure_ipc(report: &mut Report, program: &Path) -> io::Result<()> {
    let hosts = hosts(program);
    let daemons = hosts.each_ref().map(Host::start);
    for host in &hosts {
        fs::write(host.path("file"), vec![b'f'; 1024])?;
        fs::write(host.path("large"), vec![b'l'; LARGE_SIZE])?;
        status::make_guests(host)?;
    }
    for (operation, name, client_counts) in IPC_ROWS {
        for &process_count in client_counts {
            let is_crowd =
                process_count == 64 || (operation == "config-large" && process_count == 8);
            let row = Row {
                operation: name,
                process_count,
                bar_percent: if is_crowd {
                    CROWD_BAR_PERCENT
                } else {
                    BAR_PERCENT
                },
            };
            measure(report, &row, &hosts, |host| {
                fleet::rate(process_count, &["ipc-worker", operation, host.service()])
            })?;
        }
    }
    stop(daemons);
    Ok(())
}

fn stop(daemons: [Daemon<'_>; 2]) {
    for daemon in daemons {
        daemon.stop();
    }
}

/// Measures a row on both hosts in turns.
pub(crate) fn measure(
    report: &mut Report,
    row: &Row<'_>,
    [other, this]: &[Host; 2],
    rate: impl Fn(&Host) -> io::Result<f64>,
) -> io::Result<()> {
    let mut pairs = Pairs::measure(ROUND_COUNT, || rate(other), || rate(this))?;
    let mut percents = pairs.percents();
    let (low, high) = (
        percents[BEYOND_INTERVAL],
        percents[percents.len() - 1 - BEYOND_INTERVAL],
    );
    let percent = median(&mut percents);
    let (other, this) = (median(&mut pairs.others), median(&mut pairs.daemons));
    let bar = row.bar_percent;
    report.mark(
        high >= f64::from(bar),
        Figure::rate(row.name(), this),
        &format!(
            "{}  {other:>9.0} {this:>9.0}   {percent:>5.0} %   {low:>4.0} to {high:>4.0} %  (>= {bar} %)",
            row.name()
        ),
    )
}
