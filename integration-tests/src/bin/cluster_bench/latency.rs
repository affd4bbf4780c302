//! One writer: how long a write takes beside the bare way of its message.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use integration_tests::Cluster;

use crate::probe::Probe;
use crate::report::line;

/// Rounds of the pair, and operations of each side in one round.
const ROUNDS: usize = 20;
const OPERATIONS: usize = 100;

/// Size of a WRITE message beside its data: header, fixed fields, path with NUL.
const WRITE_OVERHEAD: usize = 24 + 20 + 8;

pub(crate) fn measure() -> bool {
    let cluster = Cluster::running(3);
    let (bare, overwrite, asked, create) = cluster.host(1).inside(|| {
        let probe = Probe::join();
        let message = vec![1; 4096 + WRITE_OVERHEAD];
        let (mut bare, mut overwrite) = (Vec::new(), Vec::new());
        let (mut asked, mut create) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            bare.extend((0..OPERATIONS).map(|_| probe.round_trip(&message)));
            overwrite.extend(overwrites());
            asked.extend((0..OPERATIONS / 10).map(|_| asked_twice(&probe, &message)));
            create.extend(creates(round));
        }
        (
            median(bare),
            median(overwrite),
            median(asked),
            median(create),
        )
    });
    let ratio = overwrite.as_secs_f64() / bare.as_secs_f64();
    let overwrite_is_fast = line(
        "4 KiB overwrite, one writer, median",
        &format!("{overwrite:.0?} / {bare:.0?} bare"),
        "1.3 x bare",
        ratio <= 1.3,
    );
    let ratio = create.as_secs_f64() / (2 * bare).as_secs_f64();
    let create_is_fast = line(
        "create + write of 4 KiB, one writer, median",
        &format!("{create:.0?} = {ratio:.2} x two bare"),
        "1.3 x two bare",
        ratio <= 1.3,
    );
    let ratio = create.as_secs_f64() / asked.as_secs_f64();
    line(
        "  beside two bare behind two questions of the kernel",
        &format!("{asked:.0?}, {ratio:.2} x that"),
        "none",
        true,
    );
    overwrite_is_fast && create_is_fast
}

/// Times of overwrites of 4 KiB by one writer, which is within a host.
pub(crate) fn overwrites() -> Vec<Duration> {
    let data = [2; 4096];
    let file = File::create("/etc/pve/latency").expect("the cluster takes writes");
    let overwrite = || {
        file.write_all_at(&data, 0)
            .expect("the cluster takes writes");
    };
    overwrite();
    (0..OPERATIONS).map(|_| timed(overwrite)).collect()
}

/// Time of two bare messages behind what the kernel asks before it creates a file: for its name, and about its directory.
fn asked_twice(probe: &Probe, message: &[u8]) -> Duration {
    timed(|| {
        for name in ["/etc/pve/asked1", "/etc/pve/asked2"] {
            fs::metadata(name).expect_err("nobody makes this");
        }
        probe.round_trip(message);
        probe.round_trip(message);
    })
}

/// Times of creations with a write of 4 KiB by one writer, which is within a host.
pub(crate) fn creates(round: usize) -> Vec<Duration> {
    let create = |number| {
        let path = format!("/etc/pve/new{round}-{number}");
        timed(|| {
            let file = File::create_new(&path).expect("the cluster takes writes");
            file.write_all_at(&[2; 4096], 0)
                .expect("the cluster takes writes");
        })
    };
    (0..OPERATIONS / 10).map(create).collect()
}

fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

/// The middle of these times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
