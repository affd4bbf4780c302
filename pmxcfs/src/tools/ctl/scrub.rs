//! `scrub`: has the daemon compare its database with memory, and waits for the result.

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::client;
use anyhow::bail;

use crate::text::{count, printable};
use crate::tools::program::{CommandResult, Outcome};

/// Time between two looks at how far the daemon is.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(socket: &Path, out: &mut dyn Write) -> CommandResult {
    let pid = client::ask(socket)?.report.pid;
    let before = client::scrub(socket)?;
    // One that ran already may have passed what is of interest.
    let runs = 1 + u64::from(before.is_running);
    let mut asked = 1;
    let scrub = loop {
        let report = client::ask(socket)?.report;
        if report.pid != pid {
            bail!("the daemon was started anew meanwhile: ask for the scrub again");
        }
        if let Some(failure) = &report.store.failure {
            bail!("the scrub waits, since the database cannot be written: {failure}");
        }
        let scrub = report.store.scrub;
        if scrub.run_count >= before.run_count + runs {
            break scrub;
        }
        if asked < runs && scrub.run_count > before.run_count {
            client::scrub(socket)?;
            asked += 1;
        }
        thread::park_timeout(PAUSE);
    };
    if let Some(failure) = &scrub.failure {
        writeln!(
            out,
            "the database cannot be read, the next start would fail: {}; copy the mounted filesystem before the daemon is stopped",
            printable(failure)
        )?;
        return Ok(Outcome::Findings);
    }
    let mended_count = scrub.mended_count.saturating_sub(before.mended_count);
    writeln!(
        out,
        "{} compared, {} written anew",
        count(scrub.row_count, "row"),
        mended_count
    )?;
    for line in &scrub.mended {
        writeln!(out, "    {}", printable(line))?;
    }
    Ok(match mended_count {
        0 => Outcome::Good,
        _ => Outcome::Findings,
    })
}
