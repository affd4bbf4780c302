//! Clusters of this daemon and the C daemon.

use std::fmt::Write as _;
use std::panic::catch_unwind;
use std::time::Instant;

use integration_tests::cluster::{c_daemon, ignored_stops};
use integration_tests::tell;

use crate::{alone, faults, life, locks, partition, takeover};

/// Which of three hosts run the C daemon: every mix with both.
const MIXES: [&[usize]; 6] = [&[1], &[2], &[3], &[1, 2], &[1, 3], &[2, 3]];

/// A story of three hosts, told with the C daemon on some of them.
type Story = fn(&[usize]);

const STORIES: [(&str, Story); 8] = [
    ("join with older data", life::join_older),
    ("join with newer data", life::join_newer),
    ("partition", partition::minority),
    ("corosync killed", faults::corosync_killed),
    ("daemons killed", faults::daemons_killed),
    ("rolling stop", faults::rolling_stop),
    ("lock race", locks::race),
    ("mounts outlive daemons", takeover::members_go_on),
];

/// A row of the table: what ran on each host, and how it ended.
fn row(name: &str, mix: &[usize], result: &str) -> String {
    let daemon = |host| if mix.contains(&host) { "C" } else { "this" };
    let [one, two, three] = [1, 2, 3].map(daemon);
    format!("{name:<22} {one:<6} {two:<6} {three:<6} {result}\n")
}

#[test]
fn stories_with_c_daemons() {
    let _turn = alone();
    if c_daemon().is_none() {
        tell("*** PMXCFS_C is not set: NO SCENARIO WITH A C DAEMON WAS RUN ***");
        return;
    }
    let mut table = format!(
        "{:<22} {:<6} {:<6} {:<6} result\n",
        "scenario", "node1", "node2", "node3"
    );
    let mut failure_count = 0;
    for mix in MIXES {
        for (name, story) in STORIES {
            let (from, ignored) = (Instant::now(), ignored_stops());
            let is_good = catch_unwind(|| story(mix)).is_ok();
            let mut result = if is_good { "ok" } else { "FAILED" }.to_owned();
            write!(result, ", {:.0} s", from.elapsed().as_secs_f32()).expect("memory");
            let ignored = ignored_stops() - ignored;
            if ignored > 0 {
                write!(result, ", {ignored} C daemons ignored SIGTERM").expect("memory");
            }
            failure_count += usize::from(!is_good);
            let row = row(name, mix, &result);
            tell(row.trim_end());
            table += &row;
        }
    }
    tell(&table);
    assert_eq!(failure_count, 0, "scenarios failed:\n{table}");
}
