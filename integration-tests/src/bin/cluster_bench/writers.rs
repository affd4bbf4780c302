//! Sixteen writers, spread over three nodes that share this machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::Cluster;

use crate::report::line;

const WRITER_COUNT: usize = 16;
/// Operations of each writer in one round.
const OPERATIONS: usize = 200;
/// Odd, so that the median is a round that happened.
const ROUNDS: usize = 5;

/// What the C daemon reached on such a machine, per second.
const C_CREATES: f64 = 470.0;
const C_OVERWRITES: f64 = 59.0;

/// The operation that all writers repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// New files in one directory of each node. A kernel makes one file after the other in a directory, so three are under
    /// way at a time.
    CreateTogether,
    /// New files in a directory of each writer.
    CreateApart,
    /// 4 KiB over the same 4 KiB.
    Overwrite,
    /// A file gets another name in its directory.
    Rename,
    /// Files of a directory of each writer.
    Remove,
}

impl Work {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 5] = [
        Self::CreateTogether,
        Self::CreateApart,
        Self::Overwrite,
        Self::Rename,
        Self::Remove,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CreateTogether => "creates, 16 writers, one directory for each node",
            Self::CreateApart => "creates, 16 writers, one directory for each",
            Self::Overwrite => "4 KiB overwrites, 16 writers on 3 nodes",
            Self::Rename => "renames, 16 writers on 3 nodes",
            Self::Remove => "removals, 16 writers on 3 nodes",
        }
    }

    /// What one operation is.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::CreateTogether | Self::CreateApart => "creates",
            Self::Overwrite => "4 KiB overwrites",
            Self::Rename => "renames",
            Self::Remove => "removals",
        }
    }

    /// Operations per second that have to be reached, if there is a bar.
    fn bar(self) -> f64 {
        match self {
            Self::CreateTogether | Self::CreateApart => 4.0 * C_CREATES,
            Self::Overwrite => 30.0 * C_OVERWRITES,
            Self::Rename | Self::Remove => 0.0,
        }
    }

    fn prepare(self, own: &str, round: usize) {
        let fill = |path: String| fs::write(path, [3; 4096]).expect("the cluster takes writes");
        match self {
            Self::CreateTogether | Self::CreateApart => {}
            Self::Overwrite => fill(format!("{own}/overwritten")),
            Self::Rename => fill(format!("{own}/renamed-0")),
            Self::Remove => {
                (0..OPERATIONS).for_each(|number| fill(format!("{own}/removed-{round}-{number}")));
            }
        }
    }

    fn operate(self, shared: &str, own: &str, round: usize) {
        let create = |path: String| drop(File::create_new(path).expect("the cluster takes writes"));
        let open = |path: String| File::options().write(true).open(path);
        for number in 0..OPERATIONS {
            match self {
                Self::CreateTogether => {
                    let writer = own.rsplit('/').next().unwrap_or_default();
                    create(format!("{shared}/{writer}-{round}-{number}"));
                }
                Self::CreateApart => create(format!("{own}/{round}-{number}")),
                Self::Overwrite => open(format!("{own}/overwritten"))
                    .and_then(|file| file.write_all_at(&[4; 4096], 0))
                    .expect("the cluster takes writes"),
                Self::Rename => {
                    let (from, to) = (number % 2, (number + 1) % 2);
                    fs::rename(
                        format!("{own}/renamed-{from}"),
                        format!("{own}/renamed-{to}"),
                    )
                    .expect("the cluster takes writes");
                }
                Self::Remove => fs::remove_file(format!("{own}/removed-{round}-{number}"))
                    .expect("the cluster takes writes"),
            }
        }
    }
}

pub(crate) fn measure() -> bool {
    let cluster = Cluster::running(3);
    make_directories(&cluster);
    let mut reaches_all = true;
    for work in Work::ALL {
        let mut rates: Vec<f64> = (0..ROUNDS)
            .map(|round| rate(&cluster, work, round))
            .collect();
        rates.sort_by(f64::total_cmp);
        let (rate, bar) = (rates[ROUNDS / 2], work.bar());
        reaches_all &= line(
            work.name(),
            &format!("{rate:.0}/s"),
            &format!("{bar:.0}/s"),
            rate >= bar,
        );
    }
    reaches_all
}

/// A directory for each node and, within, one for each writer.
pub(crate) fn make_directories(cluster: &Cluster) {
    for writer in 0..WRITER_COUNT {
        let host = cluster.host(1 + writer % 3);
        let (shared, own) = directories(host.name(), writer);
        host.inside(|| {
            if writer < 3 {
                fs::create_dir(shared).expect("the cluster takes writes");
            }
            fs::create_dir(own).expect("the cluster takes writes");
        });
    }
}

fn directories(host: &str, writer: usize) -> (String, String) {
    let shared = format!("/etc/pve/dir-{host}");
    let own = format!("{shared}/own-{writer}");
    (shared, own)
}

/// Operations per second of all writers together in one round. No two rounds of one work have the same number.
pub(crate) fn rate(cluster: &Cluster, work: Work, round: usize) -> f64 {
    rate_of(WRITER_COUNT, cluster, work, round)
}

/// The same of so many writers, at most sixteen.
pub(crate) fn rate_of(writer_count: usize, cluster: &Cluster, work: Work, round: usize) -> f64 {
    let each = |action: &(dyn Fn(&str, &str) + Sync)| -> Duration {
        let begin = Instant::now();
        thread::scope(|scope| {
            for writer in 0..writer_count {
                let host = cluster.host(1 + writer % 3);
                let (shared, own) = directories(host.name(), writer);
                scope.spawn(move || host.inside(|| action(&shared, &own)));
            }
        });
        begin.elapsed()
    };
    each(&|_shared, own| work.prepare(own, round));
    let elapsed = each(&|shared, own| work.operate(shared, own, round));
    (writer_count * OPERATIONS) as f64 / elapsed.as_secs_f64()
}
