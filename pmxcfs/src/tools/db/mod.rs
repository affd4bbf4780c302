//! `pmxcfs-db`: databases in the hands of an operator, while no daemon uses them.
//!
//! Commands that write take the daemon's instance lock, build what they make under another name, and put it in its place
//! when it is complete and on disk. Commands that only look share that lock, write nothing, and show what a start of the
//! daemon would see: the rows, and what the crash journal of a killed daemon adds to them.

mod check;
mod cli;
mod close;
mod copies;
mod create;
mod diff;
mod dump;
mod export;
mod history;
mod import;
mod journal;
mod lock;
mod progress;
mod repair;
mod salvage;
mod scan;
mod source;
mod view;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::CommandFactory;
use clap_complete::Shell;

pub use cli::Cli;
use cli::{Command, CreateArgs, Program};

use super::program::{CommandResult, Outcome, Output, report, run};

/// Name under which the installer calls this program.
const INSTALLER_NAME: &str = "create_pmxcfs_db";

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == INSTALLER_NAME) {
        return report(INSTALLER_NAME, Outcome::CreateFailed, |output| {
            as_installer_tool(&arguments, output)
        });
    }
    let is_create = arguments.get(1).is_some_and(|word| word == "create");
    let failed = if is_create {
        Outcome::CreateFailed
    } else {
        Outcome::Failed
    };
    run(arguments, failed, |cli: Cli, output| {
        execute(&cli.command, output)
    })
}

fn execute(command: &Command, output: &mut Output<'_>) -> CommandResult {
    match command {
        Command::Create(args) => create::run(args, output.notes),
        Command::Check(args) => check::run(args, output.out),
        Command::Close(location) => close::run(location, output.out),
        Command::Repair(args) => repair::run(args, output.out),
        Command::Salvage(args) => salvage::run(args, output.out),
        Command::Dump(args) => dump::run(args, output),
        Command::Export(args) => export::run(args, output.notes),
        Command::Import(args) => import::run(args, output.notes),
        Command::Diff(args) => diff::run(args, output),
        Command::History(args) => history::run(args, output),
        Command::Journal(args) => journal::run(args, output.out),
        Command::Completions { program, shell } => completions(*program, *shell, output),
    }
}

fn completions(program: Program, shell: Shell, output: &mut Output<'_>) -> CommandResult {
    let mut command = match program {
        Program::Pmxcfs => crate::cli::Options::command(),
        Program::PmxcfsDb => Cli::command(),
        Program::PmxcfsCtl => crate::tools::ctl::Cli::command(),
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output.out.write_all(&script)?;
    Ok(Outcome::Good)
}

/// The installer's tool: two arguments and no options.
fn as_installer_tool(arguments: &[OsString], output: &mut Output<'_>) -> CommandResult {
    let [_, directory, database] = arguments else {
        bail!("usage: create_pmxcfs_db DIR FILE");
    };
    let args = CreateArgs {
        directory: directory.into(),
        database: database.into(),
    };
    create::run(&args, output.notes)
}
