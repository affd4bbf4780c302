//! `pmxcfs-ctl`: asks a running daemon how it is.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use pmxcfs::ctl::{self, Output};

fn main() -> ExitCode {
    let stdout = io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let status = ctl::run(
        std::env::args_os(),
        &mut Output {
            out: &mut io::BufWriter::new(stdout),
            is_terminal,
            notes: &mut io::stderr(),
        },
    );
    ExitCode::from(status)
}
