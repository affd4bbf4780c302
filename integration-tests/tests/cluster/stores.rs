//! A node whose database cannot be written, or whose disk or clock is odd.

use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use integration_tests::Cluster;
use integration_tests::cluster::{ClusterHost, Load, Writer, assert_nothing_lost};
use nix::errno::Errno;

use crate::beside_others;

fn is_eio(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

#[test]
fn another_process_in_a_database_slows_nobody() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let holder = cluster.host(3).hold_database();
    for number in 0..200 {
        let host = cluster.host(1 + number % 3);
        host.write(&format!("held{}", number % 40), b"x").unwrap();
    }
    drop(holder);
    cluster.await_synced();
    cluster.stop_and_compare();
}

#[test]
fn a_node_with_a_full_disk_takes_no_writes_until_there_is_room() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        three.fill_disk();
        cluster.host(1).write("grow", &[b'g'; 500_000]).unwrap();
        load.await_refusal(3, &cluster);
        let error = cluster.expect("a write to fail", || three.write("full", b"f").err());
        assert!(is_eio(&error), "{error}");
        // The others go on, and what was there can be read.
        load.await_progress_on(&[1, 2], &cluster);
        assert_eq!(three.read("probe").unwrap(), b"node3");
        three.empty_disk();
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn a_node_that_cannot_store_what_it_gets_is_not_in_sync() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    three.kill_corosync();
    let large = vec![b'l'; 500_000];
    cluster.expect("a majority", || cluster.host(1).write("large", &large).ok());
    three.fill_disk();
    cluster.await_departure(3);
    three.start_corosync();
    let mut writers = Writer::on(&[1, 2]);
    Load::around(&cluster, &mut writers, |load| {
        // It tries, fails and tries again, and holds nobody up.
        for _ in 0..5 {
            load.await_progress(&cluster);
            assert!(three.write("unsynced", b"u").is_err());
        }
        assert!(
            three.read("large").is_err(),
            "what is not stored is not shown"
        );
        three.empty_disk();
    });
    cluster.await_synced();
    assert_eq!(three.read("large").unwrap(), large);
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn a_slow_disk_and_a_clock_that_is_set_stop_nobody() {
    const SYNC_DELAY: Duration = Duration::from_millis(200);
    const HOUR: Duration = Duration::from_secs(3600);
    let _turn = beside_others();
    let cluster = Cluster::with_shims(3, &[]);
    let (one, three) = (cluster.host(1), cluster.host(3));
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        three.delay_syncs(SYNC_DELAY);
        three.write("slow", b"x").unwrap();
        // It is slow indeed, to those who ask for the disk.
        three.inside(|| {
            let begin = Instant::now();
            File::open("/etc/pve/slow").unwrap().sync_all().unwrap();
            assert!(begin.elapsed() >= SYNC_DELAY, "{:?}", begin.elapsed());
        });
        load.await_progress(&cluster);
        three.delay_syncs(Duration::ZERO);

        let seconds = i64::try_from(HOUR.as_secs()).unwrap();
        for offset in [seconds, -seconds] {
            three.set_clock_ahead(offset);
            load.await_progress(&cluster);
            three.write("time", offset.to_string().as_bytes()).unwrap();
            let modified = |host: &ClusterHost| {
                let meta = host.inside(|| fs::metadata("/etc/pve/time"));
                meta.and_then(|meta| meta.modified())
            };
            let now = SystemTime::now();
            let shown = modified(three).unwrap();
            let distance = match offset > 0 {
                true => shown.duration_since(now).unwrap(),
                false => now.duration_since(shown).unwrap(),
            };
            assert!(distance.abs_diff(HOUR) < HOUR / 2, "{distance:?}");
            cluster.expect("the same time elsewhere", || {
                (modified(one).ok()? == shown).then_some(())
            });
        }
        three.set_clock_ahead(0);
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}
