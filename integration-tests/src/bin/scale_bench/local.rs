//! One daemon in local mode.

use std::fs::{self, File};
use std::io;
use std::time::Instant;

use integration_tests::database::{query, tree_version};
use integration_tests::{Host, proc};

use crate::row::{Figure, median};

/// Bytes in each file.
const SIZE: usize = 200;

/// Entries that are left out, so that there is room for those that are made.
const ROOM: usize = 100;

/// One entry in so many is a guest.
const GUEST_SHARE: usize = 32;

const SLOW_ROUNDS: usize = 3;
const ROUNDS: usize = 201;

/// Starts a daemon with so many entries and asks it for all sorts of things.
pub(crate) fn measure(count: usize) -> io::Result<Vec<Figure>> {
    let host = Host::with_run_directory_in_ram();
    let daemon = host.start();
    for directory in ["flat", "rest", "nodes/node1/qemu-server"] {
        fs::create_dir_all(host.path(directory))?;
    }
    daemon.stop();
    fill(&host, count - ROOM);

    let starts = (0..SLOW_ROUNDS).map(|_| {
        let begin = Instant::now();
        let daemon = host.start();
        let elapsed = begin.elapsed();
        daemon.stop();
        elapsed.as_secs_f64() * 1e3
    });
    let start = median(starts.collect());
    let daemon = host.start();
    let memory = proc::resident_bytes(daemon.pid()) as f64 / 1e6;

    let mut client = host.ipc();
    let rest = (count - ROOM) / 2 + (count - ROOM) / GUEST_SHARE + 1;
    let look_up = |round: usize| {
        let number = rest + round;
        fs::metadata(host.path(format!("rest/f{number}"))).map(drop)
    };
    let create = |round: usize| {
        let path = host.path(format!("rest/new{round}"));
        File::create_new(path).map(drop)
    };
    let remove = |round: usize| fs::remove_file(host.path(format!("rest/new{round}")));
    let list = |_: usize| fs::read_dir(host.path("flat"))?.try_for_each(|entry| entry.map(drop));
    let figures = vec![
        Figure::linear("start", "ms", start),
        Figure::linear("memory", "MB", memory),
        Figure::constant("look-up of a name", "us", 1e3 * times(ROUNDS, look_up)?),
        Figure::constant("creation", "us", 1e3 * times(ROUNDS / 4, create)?),
        Figure::constant("removal", "us", 1e3 * times(ROUNDS / 4, remove)?),
        Figure::linear("listing of half of them", "ms", times(SLOW_ROUNDS, list)?),
        Figure::linear(
            "guest list over IPC",
            "us",
            1e3 * times(ROUNDS / 4, |_| Ok(client.guests().map(drop)?))?,
        ),
        Figure::linear("new .vmlist", "us", 1e3 * new_guest_lists(&host)?),
        Figure::constant(
            "version over IPC",
            "us",
            1e3 * times(ROUNDS, |_| Ok(client.version().map(drop)?))?,
        ),
    ];
    daemon.stop();
    Ok(figures)
}

/// Median time of an operation in milliseconds.
fn times(count: usize, mut operation: impl FnMut(usize) -> io::Result<()>) -> io::Result<f64> {
    let times = (0..count).map(|round| {
        let begin = Instant::now();
        operation(round)?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    });
    Ok(median(times.collect::<io::Result<Vec<f64>>>()?))
}

/// Median time in milliseconds of reading the guest list after a guest has come.
fn new_guest_lists(host: &Host) -> io::Result<f64> {
    let times = (0..ROUNDS / 4).map(|round| {
        let path = format!("nodes/node1/qemu-server/{}.conf", 900_000_000 + round);
        drop(File::create_new(host.path(path))?);
        let begin = Instant::now();
        drop(fs::read(host.path(".vmlist"))?);
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    });
    Ok(median(times.collect::<io::Result<Vec<f64>>>()?))
}

/// Half of the files are in one directory, some are guests, the rest is in another directory.
fn fill(host: &Host, count: usize) {
    let database = host.database();
    let base = tree_version(&database);
    let inode = |name: &str| {
        query(
            &database,
            &format!("SELECT inode FROM tree WHERE name = '{name}'"),
        )
    };
    let (flat, guests, rest) = (inode("flat"), inode("qemu-server"), inode("rest"));
    let (first_guest, first_rest) = (count / 2, count / 2 + count / GUEST_SHARE);
    let _silence = query(
        &database,
        &format!(
            "BEGIN;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data)
             SELECT {base} + i,
                    CASE WHEN i <= {first_guest} THEN {flat} WHEN i <= {first_rest} THEN {guests} ELSE {rest} END,
                    {base} + i, 1, 1800000000, 8,
                    iif(i > {first_guest} AND i <= {first_rest}, (i + 100) || '.conf', 'f' || i),
                    randomblob({SIZE})
             FROM n;
             UPDATE tree SET version = {base} + {count} WHERE inode = 0;
             COMMIT"
        ),
    );
}
