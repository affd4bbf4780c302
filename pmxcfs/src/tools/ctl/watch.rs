//! Looking again and again.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cli::WatchArgs;
use super::client;
use super::render::render;
use crate::tools::program::{CommandResult, Outcome, Output};

/// Cursor to the upper left corner.
const HOME: &str = "\x1b[H";

/// Clear to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";

/// Clear from the cursor to the end of the screen.
const CLEAR_REST: &str = "\x1b[J";

/// Shows a report at each interval, until it has done so often enough or is interrupted. A daemon that does not answer is
/// asked again. Returns the status of the last look.
pub(super) fn run(socket: &Path, args: &WatchArgs, output: &mut Output<'_>) -> CommandResult {
    let interval = Duration::from_secs(args.interval);
    let mut earlier = None;
    let mut looks = 0;
    loop {
        let now = Instant::now();
        let status = match client::ask(socket) {
            Ok(answer) => {
                // The first look has no rates, and is laid out as the later ones.
                let earlier_report = earlier.as_ref().unwrap_or(&answer.report);
                show(&render(&answer.report, Some(earlier_report)), output)?;
                let status = answer.outcome();
                earlier = Some(answer.report);
                status
            }
            Err(error) => {
                earlier = None;
                show(&format!("{error:#}\n"), output)?;
                Outcome::Failed
            }
        };
        looks += 1;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(status);
        }
        // A wait that ends early only makes the next page come early.
        std::thread::park_timeout(interval.saturating_sub(now.elapsed()));
    }
}

/// On a terminal each page takes the place of the former one, without a moment in which there is none.
fn show(page: &str, output: &mut Output<'_>) -> io::Result<()> {
    if output.is_terminal {
        let page = page.replace('\n', &format!("{CLEAR_LINE}\n"));
        write!(output.out, "{HOME}{page}{CLEAR_REST}")?;
    } else {
        writeln!(output.out, "{page}")?;
    }
    output.out.flush()
}
