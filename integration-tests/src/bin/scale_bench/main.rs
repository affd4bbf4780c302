//! Measures the daemon with few and with many entries: a table, and a plot of how each row grows.
//!
//! A row keeps its bar if it grows no faster than what it returns: start, memory, listings and joins with the number of entries,
//! the others not at all.

mod join;
mod local;
mod plot;
mod row;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::row::Row;

/// Growth beyond what is returned that noise on a shared machine and colder caches may make.
const TOLERANCE: f64 = 3.0;

/// Measures the daemon with few and with many entries.
#[derive(Debug, Parser)]
#[command(name = "pmxcfs-scale-bench")]
struct Arguments {
    /// Numbers of entries, ascending
    #[arg(default_values_t = [1_000, 10_000, 100_000, 262_144])]
    sizes: Vec<usize>,
    /// File for the plot
    #[arg(long, value_name = "FILE", default_value = "target/scale.svg")]
    svg: PathBuf,
}

fn main() -> io::Result<ExitCode> {
    let Arguments { sizes, svg } = Arguments::parse();
    let mut rows: Vec<Row> = Vec::new();
    for size in &sizes {
        let mut figures = local::measure(*size)?;
        figures.push(join::measure(*size));
        for figure in figures {
            match rows.iter_mut().find(|row| row.name == figure.name) {
                Some(row) => row.values.push(figure.value),
                None => rows.push(Row {
                    name: figure.name,
                    unit: figure.unit,
                    is_linear: figure.is_linear,
                    values: vec![figure.value],
                }),
            }
        }
    }
    let mut out = io::stdout();
    let numbers: String = sizes.iter().map(|size| format!("{size:>11}")).collect();
    writeln!(out, "{:<32}{numbers}", "entries")?;
    let mut missed_count = 0;
    for row in &rows {
        let name = format!("{}, {}", row.name, row.unit);
        let values: String = row
            .values
            .iter()
            .map(|value| format!("{value:>11.1}"))
            .collect();
        let is_kept = row.excess(&sizes) <= TOLERANCE;
        missed_count += usize::from(!is_kept);
        let mark = if is_kept { "ok" } else { "MISSED" };
        writeln!(out, "{name:<32}{values}   {mark}")?;
    }
    fs::write(&svg, plot::svg(&sizes, &rows))?;
    writeln!(out, "plot: {}", svg.display())?;
    Ok(match missed_count {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
