//! An empty node joins a cluster with many files.

use std::time::{Duration, Instant};

use integration_tests::Cluster;
use integration_tests::wait;

use crate::report::line;

const DIRECTORIES: usize = 9;
const FILES: usize = 1000;
const LIMIT: Duration = Duration::from_secs(2);

pub(crate) fn measure() -> bool {
    let mut cluster = Cluster::running(3);
    fill(&cluster);
    let elapsed = join(&mut cluster);
    line(
        "join of an empty node, 9,000 files of 2 KiB",
        &format!("{elapsed:.0?}"),
        "2 s",
        elapsed < LIMIT,
    )
}

/// Makes the files.
pub(crate) fn fill(cluster: &Cluster) {
    cluster.host(1).inside(|| {
        for directory in 0..DIRECTORIES {
            let directory = format!("/etc/pve/d{directory}");
            std::fs::create_dir(&directory).expect("the cluster takes writes");
            for file in 0..FILES {
                std::fs::write(format!("{directory}/f{file}"), [7; 2048])
                    .expect("the cluster takes writes");
            }
        }
    });
}

/// Time from the start of node 3 without its database until it has all files.
pub(crate) fn join(cluster: &mut Cluster) -> Duration {
    cluster.host_mut(3).stop_daemon();
    cluster.host(3).remove_database();
    let last = format!("d{}/f{}", DIRECTORIES - 1, FILES - 1);
    cluster.host_mut(3).start_daemon();
    let begin = Instant::now();
    let joined = wait::try_until(Duration::from_secs(30), || {
        let data = cluster.host(3).read(&last).ok()?;
        (data.len() == 2048).then(|| begin.elapsed())
    });
    joined.unwrap_or(Duration::MAX)
}
