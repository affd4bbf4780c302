//! Clusters of this daemon and the C daemon.

use integration_tests::cluster::c_daemon;

use crate::{alone_for, faults, life, locks, partition, tell};

/// Which hosts run the C daemon: the joiner, the lowest node, which leads while all are equal, and the majority.
const MIXES: [&[usize]; 4] = [&[3], &[1], &[2, 3], &[1, 2]];

/// A story of three hosts, told with the C daemon on some of them.
type Story = fn(&[usize]);

const STORIES: [(&str, Story); 7] = [
    ("join with older data", life::join_older),
    ("join with newer data", life::join_newer),
    ("partition", partition::minority),
    ("corosync killed", faults::corosync_killed),
    ("daemons killed", faults::daemons_killed),
    ("rolling stop", faults::rolling_stop),
    ("lock race", locks::race),
];

#[test]
fn stories_with_c_daemons() {
    let _alone = alone_for(std::time::Duration::from_secs(3600));
    if c_daemon().is_none() {
        tell("*** PMXCFS_C is not set: NO SCENARIO WITH A C DAEMON WAS RUN ***");
        return;
    }
    for mix in MIXES {
        for (name, story) in STORIES {
            println!("{name}, C daemon on {mix:?}");
            story(mix);
        }
    }
}
