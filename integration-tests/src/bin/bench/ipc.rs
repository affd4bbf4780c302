//! Requests over IPC: the daemon, which looks its answers up, beside a libqb server that has one ready.

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::time::Duration;

use integration_tests::{Host, IpcClient, wait};

use crate::fleet;
use crate::pairs::{self, Row};
use crate::report::Report;

const CLIENT_COUNTS: [u32; 2] = [1, 4];
const BAR_PERCENT: u32 = 80;
const FILE: &str = "file";

/// Measures two operations that clients poll all the time.
pub(crate) fn run(report: &mut Report) -> io::Result<()> {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    fs::write(host.path(FILE), vec![b'f'; 1024])?;
    let version_size = host.ipc().version()?.len();
    report.line(
        "\nrequests per second over IPC, against libqb's own server with answers of the same size",
    )?;
    for (operation, name, size) in [
        ("version", "op 1, version document", version_size),
        ("config", "op 6, file of 1 KiB", 1024),
    ] {
        let floor = EchoServer::start(size)?;
        for process_count in CLIENT_COUNTS {
            let row = Row {
                operation: name,
                process_count,
                bar_percent: BAR_PERCENT,
            };
            let rate =
                |service: &str| fleet::rate(process_count, &["ipc-worker", operation, service]);
            pairs::compare(
                report,
                &row,
                || rate(&floor.service),
                || rate(host.service()),
            )?;
        }
    }
    daemon.stop();
    Ok(())
}

/// One request of a worker.
pub(crate) fn request(client: &mut IpcClient, operation: &str) -> io::Result<()> {
    match operation {
        "version" => client.request(1, &[])?,
        "guests" => client.request(3, &[])?,
        "lock-all" => client.request(11, b"\0\0\0\0lock\0")?,
        "lock-one" => client.request(11, b"\xc8\0\0\0lock\0")?,
        "config-large" => client.request(6, b"large\0")?,
        _ => client.request(6, b"file\0")?,
    };
    Ok(())
}

/// libqb's server, in a process of its own.
pub(crate) struct EchoServer {
    /// Name to connect to.
    pub(crate) service: String,
    process: Child,
}

impl EchoServer {
    /// Starts one whose answers have bodies of this size.
    pub(crate) fn start(body_size: usize) -> io::Result<Self> {
        let service = format!("echo-{}-{body_size}", std::process::id());
        let process = Command::new("/proc/self/exe")
            .args(["echo-server", &service, &body_size.to_string()])
            .spawn()?;
        let server = Self { service, process };
        wait::until("libqb's server to listen", Duration::from_secs(5), || {
            IpcClient::connect(&server.service).ok()
        });
        Ok(server)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
