//! The printed table.

use std::io::{self, Write};

/// Prints rows and remembers how many missed their bar.
#[derive(Debug, Default)]
pub(crate) struct Report {
    row_count: u32,
    missed_count: u32,
}

impl Report {
    /// Prints a line as it is.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{text}")
    }

    /// Prints a row with its mark.
    pub(crate) fn mark(&mut self, ok: bool, text: &str) -> io::Result<()> {
        self.row_count += 1;
        if !ok {
            self.missed_count += 1;
        }
        self.line(&format!("{text}  {}", if ok { "ok" } else { "MISSED" }))
    }

    /// A row with one figure that must be below a bar.
    pub(crate) fn below(&mut self, what: &str, value: f64, bar: f64, unit: &str) -> io::Result<()> {
        self.mark(
            value < bar,
            &format!("{what:<60} {value:>9.2} {unit:<3} (< {bar} {unit})"),
        )
    }

    /// Prints the sum. True if nothing missed its bar.
    pub(crate) fn finish(&self) -> io::Result<bool> {
        self.line(&format!(
            "\n{} of {} rows missed their bar",
            self.missed_count, self.row_count
        ))?;
        Ok(self.missed_count == 0)
    }
}

/// The middle value; of an even number, the upper of the two.
///
/// # Panics
/// Without values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
