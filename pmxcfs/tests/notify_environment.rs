//! The service manager's variables are not left to programs that the daemon starts.
//!
//! Without the test harness: its threads would keep the environment from being changed. The program starts itself, once as
//! the daemon and from there once as the daemon's child.

use std::process::Command;

use pmxcfs::daemon::environment::ManagerVariables;
use pmxcfs::daemon::notify::Notifier;

const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn run_myself(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env("NOTIFY_TEST_ROLE", role);
    command
}

fn main() {
    match std::env::var("NOTIFY_TEST_ROLE").as_deref() {
        Ok("child") => {
            for name in VARIABLES {
                assert_eq!(std::env::var_os(name), None, "{name}");
            }
        }
        Ok("daemon") => {
            for name in VARIABLES {
                assert!(std::env::var_os(name).is_some(), "{name}");
            }
            let notifier = Notifier::new(&ManagerVariables::take());
            assert!(
                notifier.watchdog_interval().is_some(),
                "read before removed"
            );
            let status = run_myself("child").status().expect("started");
            assert!(status.success());
        }
        _ => {
            // `exec` keeps the process id, as the service manager does when it starts a service.
            let script = "WATCHDOG_PID=$$ exec \"$0\"";
            let status = Command::new("sh")
                .args(["-c", script])
                .arg(std::env::current_exe().expect("this program"))
                .env("NOTIFY_TEST_ROLE", "daemon")
                .env("NOTIFY_SOCKET", "@nobody-listens")
                .env("WATCHDOG_USEC", "30000000")
                .status()
                .expect("started");
            assert!(status.success());
        }
    }
}
