//! Whether a stop is the first half of a restart.
//!
//! A service manager stops a daemon with the same signal in both cases. It knows which one it is: systemd has a job for the unit, of the
//! type `restart` until the daemon has ended. While there is a job, it keeps the descriptors of the unit. So the mount may wait for the next
//! process. A manager that does not answer in time gets an ordinary stop.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long the question may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// The type of the job.
const RESTART: &str = "restart";

/// Asks systemd whether it starts this unit again when it has ended. Call it on a runtime.
pub(super) async fn is_under_way(unit: &str) -> bool {
    let mut question = Command::new("systemctl");
    question
        .args(["list-jobs", "--plain", "--no-legend", "--full", unit])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    // The program has to come from a disk, which may hang.
    let asked = spawn_blocking(move || question.output());
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(answer))) => has_restart(&String::from_utf8_lossy(&answer.stdout), unit),
        other => {
            tracing::debug!(?other, "the service manager does not tell its jobs");
            false
        }
    }
}

/// Whether one of the jobs is a restart of the unit. A line has the number, the unit, the type and the state of a job.
fn has_restart(jobs: &str, unit: &str) -> bool {
    jobs.lines().any(|job| {
        let mut columns = job.split_ascii_whitespace().skip(1);
        columns.next() == Some(unit) && columns.next() == Some(RESTART)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_this_unit_is_found_and_nothing_else() {
        for (jobs, expected) in [
            ("812 a.service restart running\n", true),
            (
                "7 b.service start waiting\n812 a.service restart running",
                true,
            ),
            ("812 a.service stop running\n", false),
            ("812 b.service restart running\n", false),
            ("812 b.service stop running a.service restart\n", false),
            ("812 a.service", false),
            ("No jobs running.\n", false),
            ("", false),
        ] {
            assert_eq!(has_restart(jobs, "a.service"), expected, "{jobs:?}");
        }
    }
}
