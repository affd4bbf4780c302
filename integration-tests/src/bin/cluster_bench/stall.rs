//! A node whose store is slow, or cannot write for seconds, must slow nobody else's writes.

use std::time::{Duration, Instant};

use integration_tests::{Cluster, wait};

use crate::report::line;

const TIME: Duration = Duration::from_secs(5);

/// What each sync takes longer on a slow disk.
const SYNC_DELAY: Duration = Duration::from_millis(200);

/// Share of the undisturbed rate that must be left.
const SHARE: f64 = 0.8;

pub(crate) fn measure() -> bool {
    let cluster = Cluster::with_shims(3, &[]);
    let three = cluster.host(3);
    let undisturbed = rate(&cluster);
    three.delay_syncs(SYNC_DELAY);
    let slow = rate(&cluster);
    three.delay_syncs(Duration::ZERO);
    let holder = three.hold_database();
    let stalled = rate(&cluster);
    drop(holder);
    wait::until("node 3 to be in sync", TIME * 4, || {
        three.read("stall").ok()
    });
    let lines = [
        ("overwrites while another node's syncs take 200 ms", slow),
        (
            "overwrites while another node's store stands still",
            stalled,
        ),
    ];
    let are_high = lines.map(|(what, rate)| {
        line(
            what,
            &format!("{rate:.0}/s of {undisturbed:.0}/s"),
            "80 %",
            rate >= SHARE * undisturbed,
        )
    });
    are_high == [true, true]
}

fn rate(cluster: &Cluster) -> f64 {
    cluster.host(1).inside(|| {
        let data = vec![5; 4096];
        let begin = Instant::now();
        let mut count = 0u32;
        while begin.elapsed() < TIME {
            std::fs::write("/etc/pve/stall", &data).expect("the cluster takes writes");
            count += 1;
        }
        f64::from(count) / begin.elapsed().as_secs_f64()
    })
}
