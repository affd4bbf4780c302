//! Measures the daemon and marks which bars it reaches.
//!
//! Rates on a shared machine say little, ratios do: the daemon is paired with the fastest filesystem that a simple
//! program can be on the same library (the floor), in alternating rounds of one run.

mod against;
mod echo_server;
mod fleet;
mod floor;
mod history;
mod ipc;
mod pairs;
mod processor;
mod report;
mod single;
mod status;
mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use integration_tests::{Host, proc, wait};
use nix::mount::{MntFlags, umount2};

use crate::pairs::Row;
use crate::report::Report;
use crate::workload::{PROCESS_COUNTS, WORKLOADS};

const ROUND: Duration = Duration::from_millis(250);
/// Parts of the benchmark beside the single workloads.
const PARTS: [&str; 4] = ["history", "ipc", "single", "status"];

/// Measures the daemon and marks which bars it reaches.
#[derive(Debug, Parser)]
#[command(name = "pmxcfs-bench")]
struct Arguments {
    /// Only this part: history, ipc, single, status, or the name of a workload
    #[arg(value_parser = part)]
    part: Option<String>,
    /// Compare rates with another daemon instead: the path of its program
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print all figures beside those that an earlier run wrote with --json
    #[arg(long, value_name = "OLD")]
    compare: Option<PathBuf>,
}

fn part(name: &str) -> Result<String, String> {
    if PARTS.contains(&name) || workload::find(name).is_some() {
        return Ok(name.to_owned());
    }
    Err(format!(
        "parts are {}, {}",
        PARTS.join(", "),
        WORKLOADS.map(|workload| workload.name).join(", ")
    ))
}

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["floor", mount_dir] => floor::serve(Path::new(mount_dir))?,
        ["worker", name, mount_dir, number] => {
            workload::run(name, Path::new(mount_dir), number, ROUND)?;
        }
        ["echo-server", service, size] => {
            let size = size.parse().map_err(|_text| io::ErrorKind::InvalidInput)?;
            echo_server::serve(service, size)?;
        }
        ["ipc-worker", operation, service, _number] => {
            workload::run_ipc(operation, service, ROUND)?;
        }
        _ => return measure(&Arguments::parse()),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> io::Result<ExitCode> {
    let only = arguments.part.as_deref();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut report = Report::default();
    if let Some(program) = &arguments.against {
        against::run(&mut report, program, only)?;
    } else {
        if WORKLOADS.iter().any(|workload| wanted(workload.name)) {
            filesystem(&mut report, wanted)?;
        }
        if wanted("ipc") {
            ipc::run(&mut report)?;
        }
        if wanted("single") {
            single::run(&mut report)?;
        }
        if wanted("status") {
            status::run(&mut report)?;
        }
        if wanted("history") {
            history::run(&mut report)?;
        }
    }
    if let Some(old) = &arguments.compare {
        report.compare(old)?;
    }
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    Ok(if report.finish()? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn filesystem(report: &mut Report, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let floor = FloorProcess::start()?;
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    let (floor_dir, daemon_dir) = (floor.mount_dir(), host.mount_dir());
    workload::prepare(&floor_dir)?;
    workload::prepare(&daemon_dir)?;
    report.line("operations per second, against a memory-only filesystem on the same library")?;
    report.line(&format!(
        "{:<36} {:>9} {:>9}   {:>7}",
        "", "floor", "pmxcfs", "ratio"
    ))?;
    for workload in WORKLOADS.iter().filter(|workload| wanted(workload.name)) {
        for process_count in PROCESS_COUNTS {
            let rate = |mount_dir: &Path| {
                let mount_dir = mount_dir.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                fleet::rate(process_count, &["worker", workload.name, mount_dir])
            };
            let row = Row {
                operation: workload.operation,
                process_count,
                bar_percent: workload.bar_percent,
            };
            pairs::compare(report, &row, || rate(&floor_dir), || rate(&daemon_dir))?;
        }
    }
    daemon.stop();
    Ok(())
}

/// The floor, mounted in a throw-away directory.
struct FloorProcess {
    host: Host,
    process: Child,
}

impl FloorProcess {
    fn start() -> io::Result<Self> {
        let host = Host::new();
        std::fs::create_dir_all(host.mount_dir())?;
        let process = Command::new("/proc/self/exe")
            .arg("floor")
            .arg(host.mount_dir())
            .spawn()?;
        wait::until("the floor's mount", Duration::from_secs(5), || {
            proc::is_mounted(&host.mount_dir()).then_some(())
        });
        Ok(Self { host, process })
    }

    fn mount_dir(&self) -> PathBuf {
        self.host.mount_dir()
    }
}

impl Drop for FloorProcess {
    fn drop(&mut self) {
        if umount2(&self.mount_dir(), MntFlags::MNT_DETACH).is_err() {
            drop(self.process.kill());
        }
        drop(self.process.wait());
    }
}
