//! `pmxcfs-db`: looks at, repairs and makes databases while no daemon uses them.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let status = pmxcfs::db_tool::run(
        std::env::args_os(),
        &mut io::BufWriter::new(io::stdout().lock()),
        &mut io::stderr(),
    );
    ExitCode::from(status)
}
