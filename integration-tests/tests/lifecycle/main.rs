//! Start, stop and crash of the daemon as systemd and operators see them.
#![expect(clippy::unwrap_used, reason = "what does not hold here fails the test")]

mod background;
mod command_line;
mod mode;
mod shutdown;
mod startup;

use std::time::Duration;

/// Longest time that a stop may take, whatever clients and programs do.
const STOP_BAR: Duration = Duration::from_secs(2);
