//! `pmxcfs`: serves `/etc/pve`.

use std::process::ExitCode;

use pmxcfs::cli::{self, Invocation};
use pmxcfs::daemonize::{self, Role};
use pmxcfs::notify::Notifier;
use pmxcfs::startup::{self, Readiness};

#[expect(
    clippy::print_stdout,
    reason = "help and version are asked for on stdout"
)]
fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Run(options)) => options,
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("[main] crit: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    let notifier = Notifier::take_from_environment();
    if options.foreground {
        return startup::run(*options, Readiness::Foreground, notifier);
    }
    match daemonize::fork() {
        Ok(Role::Parent(child)) => child.wait_until_ready(&options.paths().mount_dir),
        Ok(Role::Child(parent)) => startup::run(*options, Readiness::Daemon(parent), notifier),
        Err(error) => {
            eprintln!("[main] crit: cannot start a background process: {error}");
            ExitCode::from(startup::EXIT_FAILURE)
        }
    }
}
