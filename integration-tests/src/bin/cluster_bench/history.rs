//! Measures the cost of the history of changes in a cluster: three nodes with it beside three without.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use integration_tests::{Cluster, daemon};
use tempfile::tempdir;

use crate::against::paired;
use crate::writers::{self, Work};

const BAR: f64 = 0.97;
const WRITER_COUNTS: [usize; 3] = [1, 4, 16];
const WORKS: [Work; 4] = [
    Work::CreateApart,
    Work::Overwrite,
    Work::Rename,
    Work::Remove,
];
/// How long all rounds may take.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) fn measure() -> bool {
    let directory = tempdir().expect("a directory");
    let without = directory.path().join("pmxcfs");
    let script = format!(
        "#!/bin/sh\nPMXCFS_HISTORY=off exec {} \"$@\"\n",
        daemon::binary().display()
    );
    fs::write(&without, script).expect("an own directory can be filled");
    fs::set_permissions(&without, Permissions::from_mode(0o755)).expect("an own file");
    let mut clusters = [Cluster::running_program(3, &without), Cluster::running(3)];
    clusters.iter().for_each(|cluster| cluster.extend(PATIENCE));
    clusters.iter().for_each(writers::make_directories);
    let mut reaches_all = true;
    for work in WORKS {
        for count in WRITER_COUNTS {
            let what = format!(
                "{} with a history, {count} writers on 3 nodes",
                work.operation()
            );
            reaches_all &= paired(&what, BAR, &mut clusters, |cluster, round| {
                writers::rate_of(count, cluster, work, count * 100 + round)
            });
        }
    }
    reaches_all
}
