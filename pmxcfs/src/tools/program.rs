//! The frame of both programs: command line, help, errors, exit status.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

/// The result of a command, as the program's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is well.
    Good = 0,
    /// There is something that the caller may want to act on.
    Findings = 1,
    /// There is no result.
    Failed = 2,
    /// The daemon would not start.
    Refused = 3,
    /// `create` failed, as the installer knows it.
    CreateFailed = 255,
}

/// Where a command writes to.
pub(super) struct Output<'a> {
    /// Results.
    pub(super) out: &'a mut dyn Write,
    /// Whether results go to a terminal.
    pub(super) is_terminal: bool,
    /// Everything else.
    pub(super) notes: &'a mut dyn Write,
}

/// A result of a command: its outcome, or the error to show.
pub(super) type CommandResult = anyhow::Result<Outcome>;

/// Reads the command line, its first word the program's name, and runs the command. `failed` is the outcome where there is
/// no result.
pub(super) fn run<C: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    failed: Outcome,
    execute: impl FnOnce(C, &mut Output<'_>) -> CommandResult,
) -> ExitCode {
    let name = C::command().get_name().to_owned();
    report(&name, failed, |output| {
        match C::try_parse_from(arguments) {
            Ok(command) => execute(command, output),
            // Help and version, too, come as an error.
            Err(error) if error.use_stderr() => {
                write!(output.notes, "{}", error.render())?;
                Ok(failed)
            }
            Err(error) => {
                write!(output.out, "{}", error.render())?;
                Ok(Outcome::Good)
            }
        }
    })
}

/// Runs a command on the process's streams and shows its error, `name` in front of it.
pub(super) fn report(
    name: &str,
    failed: Outcome,
    execute: impl FnOnce(&mut Output<'_>) -> CommandResult,
) -> ExitCode {
    let stdout = io::stdout().lock();
    let mut output = Output {
        is_terminal: stdout.is_terminal(),
        out: &mut io::BufWriter::new(stdout),
        notes: &mut io::stderr(),
    };
    let result = execute(&mut output).and_then(|outcome| {
        output.out.flush()?;
        Ok(outcome)
    });
    let outcome = result.unwrap_or_else(|error| {
        // A reader that has closed the pipe has seen enough.
        if !is_broken_pipe(&error) {
            let _told = writeln!(output.notes, "{name}: {error:#}");
        }
        failed
    });
    ExitCode::from(outcome as u8)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
}
