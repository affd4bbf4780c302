//! `pmxcfs-ctl`: asks a running daemon how it is.
//!
//! Everything that is shown is made of the report that the daemon sends ([`crate::health::report`]); nothing is asked of the
//! filesystem or of the IPC service, so this works when those do not.

mod cli;
mod client;
mod prometheus;
mod text;
mod units;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;
use clap::error::ErrorKind;

pub use cli::Cli;
use cli::Command;
pub use prometheus::render as render_metrics;
pub use text::{Rates, render as render_text};

use crate::health::report::Report;

/// Status when the daemon is healthy.
const HEALTHY: u8 = 0;

/// Status when the daemon works, but not as it should.
const DEGRADED: u8 = 1;

/// Status when there is no answer, and for everything else that keeps this program from its work.
const FAILED: u8 = 2;

/// Where results go.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Whether that is a terminal.
    pub is_terminal: bool,
    /// Everything else.
    pub notes: &'a mut dyn Write,
}

/// Runs the program with these arguments, its name first. Returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>, output: &mut Output<'_>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, output),
    };
    let result = execute(&cli, output).and_then(|status| {
        output.out.flush()?;
        Ok(status)
    });
    match result {
        Ok(status) => status,
        Err(error) => {
            // Whoever closed the pipe has seen enough.
            if !is_broken_pipe(&error) {
                let _told = writeln!(output.notes, "pmxcfs-ctl: {error:#}");
            }
            FAILED
        }
    }
}

fn explain(error: &clap::Error, output: &mut Output<'_>) -> u8 {
    let is_asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let text = error.render();
    let told = if is_asked {
        write!(output.out, "{text}").and_then(|()| output.out.flush())
    } else {
        write!(output.notes, "{text}")
    };
    if is_asked && told.is_ok() {
        HEALTHY
    } else {
        FAILED
    }
}

fn execute(cli: &Cli, output: &mut Output<'_>) -> anyhow::Result<u8> {
    let socket = cli.socket();
    match &cli.command {
        Command::Status { json: true } => {
            let answer = client::ask(&socket)?;
            output.out.write_all(&answer.json)?;
            Ok(status_of(&answer.report))
        }
        Command::Status { json: false } => {
            let answer = client::ask(&socket)?;
            write!(output.out, "{}", text::render(&answer.report, None))?;
            Ok(status_of(&answer.report))
        }
        Command::Metrics => {
            let answer = client::ask(&socket)?;
            write!(output.out, "{}", prometheus::render(&answer.report))?;
            Ok(HEALTHY)
        }
        Command::Watch(args) => watch::run(&socket, args, output),
    }
}

const fn status_of(report: &Report) -> u8 {
    if report.problems.is_empty() {
        HEALTHY
    } else {
        DEGRADED
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
