//! `reload`: has the daemon change to the program that is installed now, and waits until that serves.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::client;
use crate::tools::program::{CommandResult, Outcome};

/// How long the change may take: a large database has to be loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(socket: &Path) -> CommandResult {
    let begin = Instant::now();
    client::reload(socket)?;
    loop {
        // One that has started since then. It answers here when everything is ready.
        let is_new = client::ask(socket)
            .is_ok_and(|answer| Duration::from_millis(answer.report.uptime_ms) < begin.elapsed());
        if is_new {
            return Ok(Outcome::Good);
        }
        if begin.elapsed() > PATIENCE {
            bail!(
                "the new program does not answer within {} s: see its log",
                PATIENCE.as_secs()
            );
        }
        thread::park_timeout(PAUSE);
    }
}
