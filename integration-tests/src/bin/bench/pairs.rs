//! The daemon beside a floor, in alternating rounds.

use std::io;

use crate::report::{Report, median};

/// Rounds per row. Odd, so that the median is a round that happened.
const ROUND_COUNT: usize = 7;

/// One row of the table of ratios.
pub(crate) struct Row<'a> {
    /// What one operation is.
    pub(crate) operation: &'a str,
    /// Number of processes at once.
    pub(crate) process_count: u32,
    /// Least share of the floor, in percent.
    pub(crate) bar_percent: u32,
}

/// Measures both in turns, changing who begins, and reports the median of the rounds' ratios.
pub(crate) fn compare(
    report: &mut Report,
    row: &Row<'_>,
    mut floor: impl FnMut() -> io::Result<f64>,
    mut daemon: impl FnMut() -> io::Result<f64>,
) -> io::Result<()> {
    let (mut floors, mut daemons, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUND_COUNT {
        let (floor_rate, daemon_rate) = if round % 2 == 0 {
            let floor_rate = floor()?;
            (floor_rate, daemon()?)
        } else {
            let daemon_rate = daemon()?;
            (floor()?, daemon_rate)
        };
        floors.push(floor_rate);
        daemons.push(daemon_rate);
        ratios.push(100.0 * daemon_rate / floor_rate);
    }
    let ratio = median(&mut ratios);
    let ok = ratio >= f64::from(row.bar_percent);
    report.mark(
        ok,
        &format!(
            "{:<32} x{}  {:>9.0} {:>9.0}   {ratio:>5.0} %  (>= {} %)",
            row.operation,
            row.process_count,
            median(&mut floors),
            median(&mut daemons),
            row.bar_percent,
        ),
    )
}
