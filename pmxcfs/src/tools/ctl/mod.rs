//! `pmxcfs-ctl`: asks a running daemon for its health.
//!
//! Everything that is shown is made of the report that the daemon sends ([`crate::health::report`]); nothing is asked of the
//! filesystem or of the IPC service, so this works when those do not.

mod cli;
mod client;
mod prometheus;
mod render;
mod watch;

use std::path::Path;
use std::process::ExitCode;

pub use cli::Cli;
use cli::Command;

use super::program::{CommandResult, Outcome, Output, run};

/// Runs the program with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os(), Outcome::Failed, |cli: Cli, output| {
        execute(&cli.command, &cli.socket(), output)
    })
}

fn execute(command: &Command, socket: &Path, output: &mut Output<'_>) -> CommandResult {
    if let Command::Watch(args) = command {
        return watch::run(socket, args, output);
    }
    let answer = client::ask(socket)?;
    let outcome = answer.outcome();
    match command {
        Command::Status { json: true } => output.out.write_all(&answer.json)?,
        Command::Metrics => {
            write!(output.out, "{}", prometheus::render(&answer.report))?;
            return Ok(Outcome::Good);
        }
        _ => write!(output.out, "{}", render::render(&answer.report, None))?,
    }
    Ok(outcome)
}
