//! `pmxcfs-db`: checks, repairs, shows and makes databases while no daemon uses them.

use std::process::ExitCode;

fn main() -> ExitCode {
    pmxcfs::tools::db::main()
}
