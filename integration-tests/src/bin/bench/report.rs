//! The printed table, and the same as JSON.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

/// The figure of one row.
#[derive(Debug)]
pub(crate) struct Figure {
    row: String,
    value: f64,
    unit: String,
}

impl Figure {
    /// Operations per second.
    pub(crate) fn rate(row: impl Into<String>, per_second: f64) -> Self {
        Self::new(row, per_second, "/s")
    }

    fn new(row: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            row: row.into(),
            value,
            unit: unit.to_owned(),
        }
    }
}

/// Prints rows, keeps their figures and remembers how many missed their bar.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<(Figure, bool)>,
}

impl Report {
    /// Prints a line as it is.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{text}")
    }

    /// Prints a row with its mark.
    pub(crate) fn mark(&mut self, ok: bool, figure: Figure, text: &str) -> io::Result<()> {
        self.figures.push((figure, ok));
        self.line(&format!("{text}  {}", if ok { "ok" } else { "MISSED" }))
    }

    /// A row with one figure that must be below a bar.
    pub(crate) fn below(&mut self, what: &str, value: f64, bar: f64, unit: &str) -> io::Result<()> {
        self.mark(
            value < bar,
            Figure::new(what, value, unit),
            &format!("{what:<60} {value:>9.2} {unit:<3} (< {bar} {unit})"),
        )
    }

    /// Prints the sum. True if something was measured and nothing missed its bar.
    pub(crate) fn finish(&self) -> io::Result<bool> {
        let missed_count = self.figures.iter().filter(|(_, ok)| !ok).count();
        let row_count = self.figures.len();
        self.line(&format!(
            "\n{missed_count} of {row_count} rows missed their bar"
        ))?;
        Ok(missed_count == 0 && row_count > 0)
    }

    /// Writes all figures to a file: a list of objects with `row`, `value`, `unit` and `ok`.
    pub(crate) fn write_json(&self, file: &Path) -> io::Result<()> {
        let rows: Vec<Value> = self
            .figures
            .iter()
            .map(|(figure, ok)| {
                json!({"row": figure.row, "value": figure.value, "unit": figure.unit, "ok": ok})
            })
            .collect();
        fs::write(file, format!("{:#}\n", Value::from(rows)))
    }

    /// Prints each figure beside the one of an earlier run, and their ratio.
    ///
    /// # Errors
    /// If the file is not what [`Self::write_json`] writes.
    pub(crate) fn compare(&self, file: &Path) -> io::Result<()> {
        let text = fs::read_to_string(file)?;
        let old: Vec<Value> = serde_json::from_str(&text)?;
        self.line(&format!(
            "\n{:<62} {:>11} {:>11}   new/old",
            "", "old", "new"
        ))?;
        for (figure, _) in &self.figures {
            let old = old
                .iter()
                .find(|old| old["row"] == figure.row.as_str())
                .and_then(|old| old["value"].as_f64());
            let Some(old) = old else {
                self.line(&format!("{:<62} {:>11}", figure.row, "new row"))?;
                continue;
            };
            self.line(&format!(
                "{:<62} {old:>11.1} {:>11.1}   {:.2} ({})",
                figure.row,
                figure.value,
                figure.value / old,
                figure.unit
            ))?;
        }
        Ok(())
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
