//! This build's daemon beside another one, such as that of an earlier commit: two clusters, in alternating rounds.
//!
//! A row keeps the bar if the 90 % interval of the median of its ratios reaches it, so that noise alone fails no row.

use std::path::Path;
use std::time::Duration;

use integration_tests::Cluster;

use crate::report::line;
use crate::writers::{self, Work};
use crate::{join, latency};

/// Rounds per row. The median of what is measured lies between the second and the last but one of nine in 96 of 100 cases.
const ROUNDS: usize = 9;
const BEYOND_INTERVAL: usize = 1;
const BAR: f64 = 0.95;
/// How long all rounds may take.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Measures all rows against the daemon that `program` is.
pub(crate) fn measure(program: &Path) -> bool {
    let mut clusters = [Cluster::running_program(3, program), Cluster::running(3)];
    clusters.iter().for_each(|cluster| cluster.extend(PATIENCE));
    clusters.iter().for_each(writers::make_directories);
    let inverse = |time: Duration| 1.0 / time.as_secs_f64();
    let mut reaches_all = row(
        "4 KiB overwrite, one writer",
        &mut clusters,
        |cluster, _| inverse(latency::median(cluster.host(1).inside(latency::overwrites))),
    );
    let what = "create + write of 4 KiB, one writer";
    reaches_all &= row(what, &mut clusters, |cluster, round| {
        let times = cluster.host(1).inside(|| latency::creates(round));
        inverse(latency::median(times))
    });
    for work in Work::ALL {
        reaches_all &= row(work.name(), &mut clusters, |cluster, round| {
            writers::rate(cluster, work, round)
        });
    }
    clusters.iter_mut().for_each(join::fill);
    reaches_all &= row("joins of an empty node", &mut clusters, |cluster, _| {
        inverse(join::elapsed(cluster))
    });
    reaches_all
}

fn row(what: &str, clusters: &mut [Cluster; 2], rate: impl Fn(&mut Cluster, usize) -> f64) -> bool {
    paired(what, BAR, clusters, rate)
}

/// Measures both clusters in turns, changing who begins.
pub(crate) fn paired(
    what: &str,
    bar: f64,
    [other, this]: &mut [Cluster; 2],
    rate: impl Fn(&mut Cluster, usize) -> f64,
) -> bool {
    let (mut others, mut these, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (other, this) = if round % 2 == 0 {
            let other = rate(other, round);
            (other, rate(this, round))
        } else {
            let this = rate(this, round);
            (rate(other, round), this)
        };
        others.push(other);
        these.push(this);
        ratios.push(this / other);
    }
    for values in [&mut others, &mut these, &mut ratios] {
        values.sort_by(f64::total_cmp);
    }
    let (low, high) = (
        ratios[BEYOND_INTERVAL],
        ratios[ROUNDS - 1 - BEYOND_INTERVAL],
    );
    let middle = ROUNDS / 2;
    line(
        &format!("{what}: {:.1} {:.1}", others[middle], these[middle]),
        &format!("{:.2} ({low:.2} to {high:.2})", ratios[middle]),
        &format!("{bar}"),
        high >= bar,
    )
}
