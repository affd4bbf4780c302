//! Measures the cost of the writes of others on a node on which nobody writes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use integration_tests::{Cluster, cost};

use crate::report::line;

const WRITES: u32 = 5000;

pub(crate) fn measure() -> bool {
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    let used = || [three.daemon_pid(), three.corosync_pid()].map(cost::processor_time);
    let before = used();
    cluster.host(1).inside(|| {
        let file = File::create("/etc/pve/listened").expect("the cluster takes writes");
        for number in 0..WRITES {
            let data = [u8::try_from(number % 256).unwrap_or(0); 4096];
            file.write_all_at(&data, 0)
                .expect("the cluster takes writes");
        }
    });
    let after = used();
    let each = |index: usize| -> Duration {
        let used: Duration = after[index].saturating_sub(before[index]);
        used / WRITES
    };
    let (daemon, corosync) = (each(0), each(1));
    line(
        "processor time for a write of another node",
        &format!("{daemon:.1?}, corosync {corosync:.1?}"),
        "half of corosync",
        daemon * 2 <= corosync,
    )
}
