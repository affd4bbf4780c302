//! Measures a cluster of three hosts and marks which bars it reaches.
//!
//! What a write must cost is the way of one message through corosync: from the multicast to the own delivery. So the daemon
//! is paired with a bare probe of that way, with messages of the same size on the same ring, in alternating rounds of one
//! run.

mod join;
mod latency;
mod probe;
mod report;
mod stall;
mod writers;

use std::process::ExitCode;

/// A part of the benchmark: prints its lines, and says whether its bars are reached.
type Part = fn() -> bool;

const PARTS: [(&str, Part); 4] = [
    ("latency", latency::measure),
    ("writers", writers::measure),
    ("stall", stall::measure),
    ("join", join::measure),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let unknown = wanted
        .iter()
        .find(|name| !PARTS.iter().any(|(part, _)| part == name));
    if let Some(unknown) = unknown {
        let names = PARTS.map(|(name, _)| name).join(", ");
        eprintln!("pmxcfs-cluster-bench: no part {unknown}; parts: {names}");
        return ExitCode::from(2);
    }
    let mut reaches_all = true;
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            reaches_all &= part();
        }
    }
    if reaches_all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
