//! `pmxcfs-ctl`: shows the health of a running pmxcfs.

use std::process::ExitCode;

fn main() -> ExitCode {
    pmxcfs::tools::ctl::main()
}
