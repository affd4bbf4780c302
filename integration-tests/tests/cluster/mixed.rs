//! Clusters of this daemon and the C daemon.

use integration_tests::cluster::c_daemon;

use crate::{alone, life, operation};

/// Which hosts run the C daemon: the joiner, the lowest node, which leads while all are equal, and the majority.
const MIXES: [&[usize]; 4] = [&[3], &[1], &[2, 3], &[1, 2]];

/// A story of three hosts, told with the C daemon on some of them.
type Story = fn(&[usize]);

const STORIES: [(&str, Story); 7] = [
    ("join with older data", life::join_older),
    ("join with newer data", life::join_newer),
    ("partition", operation::partition),
    ("corosync killed", operation::corosync_killed),
    ("daemons killed", operation::daemons_killed),
    ("rolling stop", operation::rolling_stop),
    ("lock race", operation::lock_race),
];

#[test]
fn stories_with_c_daemons() {
    let _alone = alone();
    if c_daemon().is_none() {
        // Written past the test runner, which shows what succeeds to nobody.
        let told = std::fs::write(
            "/dev/stderr",
            "\n*** PMXCFS_C is not set: NO SCENARIO WITH A C DAEMON WAS RUN ***\n",
        );
        told.expect("standard error is open");
        return;
    }
    for mix in MIXES {
        for (name, story) in STORIES {
            println!("{name}, C daemon on {mix:?}");
            story(mix);
        }
    }
}
