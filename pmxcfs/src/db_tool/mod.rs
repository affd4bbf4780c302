//! `pmxcfs-db`: databases in the hands of an operator, while no daemon uses them.
//!
//! Commands that write take the daemon's instance lock, build what they make under another name, and put it in its place
//! when it is complete and on disk. Commands that only look share that lock, write nothing, and see what a start of the
//! daemon would see: the rows, and what the crash journal of a killed daemon adds to them.

mod check;
mod cli;
mod copies;
mod create;
mod diff;
mod dump;
mod export;
mod import;
mod journal;
mod lock;
mod progress;
mod repair;
mod scan;
mod source;
mod text;
mod view;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

pub use cli::Cli;
use cli::{Command, CompletionsArgs, CreateArgs, Program};

/// Name under which the program is what the installer calls.
const INSTALLER_NAME: &str = "create_pmxcfs_db";

/// Status of `create` when it fails, as the installer knows it.
const CREATE_FAILED: u8 = 255;

/// What a command found out or left, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is well.
    Good,
    /// There is something that the caller may want to act on.
    Findings,
    /// The daemon would not start.
    Refused,
}

impl Outcome {
    const fn status(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Findings => 1,
            Self::Refused => 3,
        }
    }
}

/// Status of a command that failed.
const FAILED: u8 = 2;

/// Runs the program with these arguments, its name first. Results go to `out`, everything else to `notes`. Returns the
/// exit status.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if is_installer_call(&arguments) {
        return run_as_installer_tool(&arguments, notes);
    }
    let is_create = arguments.get(1).is_some_and(|word| word == "create");
    let failed = if is_create { CREATE_FAILED } else { FAILED };
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => {
            let is_asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            let text = error.render();
            let told = if is_asked {
                write!(out, "{text}").and_then(|()| out.flush())
            } else {
                write!(notes, "{text}")
            };
            return if is_asked && told.is_ok() { 0 } else { failed };
        }
    };
    let result = execute(command, out, notes).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(outcome) => outcome.status(),
        Err(error) => {
            // Whoever closed the pipe has seen enough.
            if !is_broken_pipe(&error) {
                let _told = writeln!(notes, "pmxcfs-db: {error:#}");
            }
            failed
        }
    }
}

fn execute(
    command: Command,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    match command {
        Command::Create(args) => create::run(&args, notes),
        Command::Check(args) => check::run(&args, out),
        Command::Repair(args) => repair::run(&args, out),
        Command::Dump(args) => dump::run(&args, out, notes),
        Command::Export(args) => export::run(&args, notes),
        Command::Import(args) => import::run(&args, notes),
        Command::Diff(args) => diff::run(&args, out, notes),
        Command::Journal(args) => journal::run(&args, out),
        Command::Completions(args) => completions(&args, out),
    }
}

fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (mut command, name) = match args.program {
        Program::Pmxcfs => (crate::cli::Options::command(), "pmxcfs"),
        Program::PmxcfsDb => (Cli::command(), "pmxcfs-db"),
        Program::PmxcfsCtl => (crate::ctl::Cli::command(), "pmxcfs-ctl"),
    };
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(Outcome::Good)
}

fn is_installer_call(arguments: &[OsString]) -> bool {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == INSTALLER_NAME)
}

/// The installer's tool: two arguments and no options.
fn run_as_installer_tool(arguments: &[OsString], notes: &mut dyn Write) -> u8 {
    let result = match arguments {
        [_, directory, database] => {
            let args = CreateArgs {
                directory: directory.into(),
                database: database.into(),
            };
            create::run(&args, notes).map_err(|error| format!("{error:#}"))
        }
        _ => Err("usage: create_pmxcfs_db DIR FILE".to_owned()),
    };
    match result {
        Ok(_outcome) => 0,
        Err(text) => {
            let _told = writeln!(notes, "{text}");
            CREATE_FAILED
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
