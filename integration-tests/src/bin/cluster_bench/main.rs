//! Measures a cluster of three hosts and marks which bars it reaches.
//!
//! What a write must cost is the way of one message through corosync: from the multicast to the own delivery. So the daemon
//! is paired with a bare probe of that way, with messages of the same size on the same ring, in alternating rounds of one
//! run.

mod against;
mod history;
mod join;
mod latency;
mod listen;
mod probe;
mod report;
mod stall;
mod trace;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// A part of the benchmark: prints its lines, and says whether its bars are reached.
type Part = fn() -> bool;

const PARTS: [(&str, Part); 7] = [
    ("latency", latency::measure),
    ("trace", trace::measure),
    ("listen", listen::measure),
    ("writers", writers::measure),
    ("stall", stall::measure),
    ("join", join::measure),
    ("history", history::measure),
];

/// Measures a cluster of three hosts and marks which bars it reaches.
#[derive(Debug, Parser)]
#[command(name = "pmxcfs-cluster-bench")]
struct Arguments {
    /// Only these parts
    #[arg(value_parser = PARTS.map(|(name, _)| name))]
    parts: Vec<String>,
    /// Compare with another daemon instead: the path of its program
    #[arg(long, value_name = "PROGRAM", conflicts_with = "parts")]
    against: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let reaches_all = if let Some(program) = &arguments.against {
        against::measure(program)
    } else {
        let wanted = |name: &str| {
            arguments.parts.is_empty() || arguments.parts.iter().any(|part| part == name)
        };
        let parts = PARTS.iter().filter(|(name, _)| wanted(name));
        let missed_count = parts.filter(|(_, part)| !part()).count();
        missed_count == 0
    };
    if reaches_all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
