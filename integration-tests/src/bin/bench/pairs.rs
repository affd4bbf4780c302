//! Two sides in alternating rounds: rates on a shared machine say little, ratios do.

use std::io;

use crate::report::{Figure, Report, median};

/// Rounds per row. Odd, so that the median is a round that happened.
pub(crate) const ROUND_COUNT: usize = 7;

/// One row of the table of ratios.
pub(crate) struct Row<'a> {
    /// What one operation is.
    pub(crate) operation: &'a str,
    /// Number of processes at once.
    pub(crate) process_count: u32,
    /// Least share of the other side, in percent.
    pub(crate) bar_percent: u32,
}

impl Row<'_> {
    /// Operation and number of processes.
    pub(crate) fn name(&self) -> String {
        format!("{:<32} x{}", self.operation, self.process_count)
    }
}

/// Rates of both sides, in operations per second, round by round.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// The side that is compared with.
    pub(crate) others: Vec<f64>,
    /// The daemon of this build.
    pub(crate) daemons: Vec<f64>,
}

impl Pairs {
    /// Measures both in turns, changing who begins.
    pub(crate) fn measure(
        round_count: usize,
        mut other: impl FnMut() -> io::Result<f64>,
        mut daemon: impl FnMut() -> io::Result<f64>,
    ) -> io::Result<Self> {
        let mut pairs = Self::default();
        for round in 0..round_count {
            if round % 2 == 0 {
                pairs.others.push(other()?);
                pairs.daemons.push(daemon()?);
            } else {
                pairs.daemons.push(daemon()?);
                pairs.others.push(other()?);
            }
        }
        Ok(pairs)
    }

    /// The daemon's share of the other side in each round, in percent, in ascending order.
    pub(crate) fn percents(&self) -> Vec<f64> {
        let pairs = self.daemons.iter().zip(&self.others);
        let mut percents: Vec<f64> = pairs
            .map(|(daemon, other)| 100.0 * daemon / other)
            .collect();
        percents.sort_by(f64::total_cmp);
        percents
    }
}

/// Measures both and reports the median of the rounds' ratios.
pub(crate) fn compare(
    report: &mut Report,
    row: &Row<'_>,
    floor: impl FnMut() -> io::Result<f64>,
    daemon: impl FnMut() -> io::Result<f64>,
) -> io::Result<()> {
    let mut pairs = Pairs::measure(ROUND_COUNT, floor, daemon)?;
    let percent = median(&mut pairs.percents());
    let (floor, rate) = (median(&mut pairs.others), median(&mut pairs.daemons));
    let bar = row.bar_percent;
    report.mark(
        percent >= f64::from(bar),
        Figure::rate(row.name(), rate),
        &format!(
            "{}  {floor:>9.0} {rate:>9.0}   {percent:>5.0} %  (>= {bar} %)",
            row.name()
        ),
    )
}
