//! `pmxcfs`: serves `/etc/pve`.

use std::process::ExitCode;

use pmxcfs::cli::{self, EXIT_FAILURE, Ending};
use pmxcfs::daemon::Launch;
use pmxcfs::daemon::background::{self, Role};

#[expect(
    clippy::print_stdout,
    reason = "help and version are asked for on stdout"
)]
fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Ending { text, status: 0 }) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Ending { text, status }) => {
            eprintln!("[main] crit: {text}");
            return ExitCode::from(status);
        }
    };
    let launch = Launch::of_this_process();
    let parent = match background::daemonize(options.foreground) {
        Ok(Role::Daemon(parent)) => parent,
        Ok(Role::Parent(child)) => return child.wait_until_ready(&options.paths().mount_dir),
        Err(error) => {
            eprintln!("[main] crit: cannot start a background process: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match pmxcfs::daemon::start(&options, parent, launch) {
        Ok((daemon, session)) => {
            let served = session.run();
            daemon.stop(served)
        }
        Err(status) => status,
    }
}
