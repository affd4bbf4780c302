//! `pmxcfs-ctl`: asks a running daemon for its health and its history.
//!
//! Everything that is shown is made of the report that the daemon sends ([`crate::health::report`]); nothing is asked of the
//! filesystem or of the IPC service, so this works when those do not. Only `flush` uses the mount, since it waits for it.

mod cli;
mod client;
mod history;
mod mount;
mod prometheus;
mod reload;
mod render;
mod scrub;
mod watch;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use pmxcfs_memdb::store::ACKNOWLEDGED;

pub use cli::Cli;
use cli::{Command, HistoryCommand};
use mount::require_mounted;

use super::program::{CommandResult, Outcome, Output, run};
use super::records::History;
use crate::text::{count, printable};

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os(), Outcome::Failed, |cli: Cli, output| {
        execute(&cli, &cli.socket(), output)
    })
}

fn execute(cli: &Cli, socket: &Path, output: &mut Output<'_>) -> CommandResult {
    match &cli.command {
        Command::Status { json } => {
            let answer = client::ask(socket)?;
            match json {
                true => output.out.write_all(&answer.json)?,
                false => write!(output.out, "{}", render::render(&answer.report, None))?,
            }
            Ok(answer.outcome())
        }
        Command::Watch(args) => watch::run(socket, args, output),
        Command::Metrics => {
            let report = client::ask(socket)?.report;
            write!(output.out, "{}", prometheus::render(&report))?;
            Ok(Outcome::Good)
        }
        Command::Flush => flush(socket),
        Command::Reload => reload::run(socket),
        Command::Scrub => scrub::run(socket, output.out),
        Command::Ack => acknowledge(socket, output.out),
        Command::OfHistory(command) => {
            let history = History {
                ask: &|query| client::question(socket, query),
                mount: &mount_dir(cli, socket),
            };
            match command {
                HistoryCommand::History(args) => history.list(args, output),
                HistoryCommand::Show { path } => history.show(path, output),
                HistoryCommand::Diff(args) => history.diff(args, output),
                HistoryCommand::Restore(args) => history::restore(&history, args, output),
                HistoryCommand::Follow(args) => history::follow(&history, args, output),
            }
        }
    }
}

/// Where the daemon has its mount; where it would be by default, if it does not say.
fn mount_dir(cli: &Cli, socket: &Path) -> PathBuf {
    match client::ask(socket) {
        Ok(answer) if !answer.report.paths.mount_dir.is_empty() => {
            answer.report.paths.mount_dir.into()
        }
        _ => cli.paths().mount_dir,
    }
}

/// Waits until the database holds everything that programs have written before.
fn flush(socket: &Path) -> CommandResult {
    let mount = client::ask(socket)?.report.paths.mount_dir;
    require_mounted(Path::new(&mount)).context("nothing is known of what the database holds")?;
    File::open(&mount)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot flush {mount} to the database"))?;
    Ok(Outcome::Good)
}

/// Tells the daemon, and marks the saves so that the next one knows as well.
fn acknowledge(socket: &Path, out: &mut dyn Write) -> CommandResult {
    let replacements = client::acknowledge(socket)?;
    if replacements.is_empty() {
        writeln!(out, "there is nothing to acknowledge")?;
    }
    for replacement in replacements {
        let directory = replacement.directory.as_deref().unwrap_or_default();
        writeln!(
            out,
            "acknowledged: {} replaced by the leader's version; the former content is in {}",
            count(replacement.paths.len(), "entry"),
            printable(directory)
        )?;
        for path in &replacement.paths {
            writeln!(out, "    {}", printable(path))?;
        }
        if !directory.is_empty() {
            let mark = Path::new(directory).join(ACKNOWLEDGED);
            fs::write(&mark, "").with_context(|| format!("cannot make {}", mark.display()))?;
        }
    }
    Ok(Outcome::Good)
}
