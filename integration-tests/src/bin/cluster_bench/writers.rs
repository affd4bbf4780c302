//! Sixteen writers, spread over three nodes that share this machine.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::Cluster;

use crate::report::line;

const WRITER_COUNT: usize = 16;
const TIME: Duration = Duration::from_secs(5);

/// What the C daemon reached on such a machine, per second.
const C_CREATES: f64 = 470.0;
const C_OVERWRITES: f64 = 59.0;

pub(crate) fn measure() -> bool {
    let cluster = Cluster::running(3);
    for host in cluster.hosts() {
        host.mkdir(&format!("dir-{}", host.name()))
            .expect("the cluster takes writes");
    }
    for writer in 0..WRITER_COUNT {
        let host = cluster.host(1 + writer % 3);
        host.mkdir(&format!("dir-{}/own-{writer}", host.name()))
            .expect("the cluster takes writes");
    }
    let create = |path: String| {
        drop(File::create_new(path).expect("the cluster takes writes"));
    };
    // A kernel makes one file after the other in a directory, so these are three at a time.
    let shared = rate(&cluster, |host, writer, number| {
        create(format!("/etc/pve/dir-{host}/w{writer}-{number}"));
    });
    let own = rate(&cluster, |host, writer, number| {
        create(format!("/etc/pve/dir-{host}/own-{writer}/{number}"));
    });
    let creates_bar = 4.0 * C_CREATES;
    let create_rates_are_high = [
        ("creates, 16 writers, one directory for each node", shared),
        ("creates, 16 writers, one directory for each", own),
    ]
    .map(|(what, creates)| {
        line(
            what,
            &format!("{creates:.0}/s"),
            &format!("{creates_bar:.0}/s"),
            creates >= creates_bar,
        )
    });
    let data = vec![3; 4096];
    let overwrites = rate(&cluster, |host, writer, _number| {
        let path = format!("/etc/pve/dir-{host}/w{writer}-0");
        let file = File::options()
            .write(true)
            .open(path)
            .expect("the file was made before");
        file.write_all_at(&data, 0)
            .expect("the cluster takes writes");
    });
    let overwrite_rate_is_high = line(
        "4 KiB overwrites, 16 writers on 3 nodes",
        &format!("{overwrites:.0}/s"),
        &format!("{:.0}/s", 30.0 * C_OVERWRITES),
        overwrites >= 30.0 * C_OVERWRITES,
    );
    create_rates_are_high == [true, true] && overwrite_rate_is_high
}

/// Operations per second of all writers together.
fn rate(cluster: &Cluster, operation: impl Fn(&str, usize, u64) + Sync) -> f64 {
    let operation = &operation;
    let begin = Instant::now();
    let total: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITER_COUNT)
            .map(|writer| {
                let host = cluster.host(1 + writer % 3);
                scope.spawn(move || {
                    host.inside(|| {
                        let mut count = 0;
                        while begin.elapsed() < TIME {
                            operation(host.name(), writer, count);
                            count += 1;
                        }
                        count
                    })
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer does not panic"))
            .sum()
    });
    total as f64 / begin.elapsed().as_secs_f64()
}
