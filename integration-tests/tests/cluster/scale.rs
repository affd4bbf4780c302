//! More hosts than most clusters have.

use std::env;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use integration_tests::cluster::{Load, Writer, assert_nothing_lost};
use integration_tests::{Cluster, tell};

use crate::alone;

/// Hosts, nine or more, and seconds for which a program of each host changes things.
fn size() -> (usize, Duration) {
    let number = |variable| {
        let set = env::var(variable).ok();
        set.map(|number| number.parse().expect("a number"))
    };
    let load = number("PMXCFS_LOAD_SECS").unwrap_or(1);
    (
        number("PMXCFS_HOSTS").map_or(9, |hosts| usize::try_from(hosts).expect("few hosts")),
        Duration::from_secs(load),
    )
}

#[test]
fn a_large_cluster_loses_a_third_and_parts_in_the_middle() {
    let _turn = alone();
    let (count, load_time) = size();
    let cluster = Cluster::running(count);
    cluster.extend(load_time);
    let last_third = count - count / 3 + 1..=count;
    for number in last_third.clone() {
        cluster.host(number).kill_daemon();
    }
    let survivor = count - count / 3;
    cluster.expect("two thirds of the daemons to go on", || {
        cluster.host(survivor).write("survivor", b"6").ok()
    });
    for number in last_third {
        cluster.host(number).start_daemon();
    }
    cluster.await_synced();

    let least_majority = count / 2 + 1;
    let minority: Vec<usize> = (least_majority + 1..=count).collect();
    cluster.part(&minority);
    for number in &minority {
        let host = cluster.host(*number);
        host.await_quorum(false);
        cluster.expect("writes to be refused by the minority", || {
            let error = host.write("lost", b"l").err()?;
            (error.kind() == ErrorKind::PermissionDenied).then_some(())
        });
    }
    cluster.expect("the majority to go on", || {
        cluster.host(least_majority).write("majority", b"5").ok()
    });
    cluster.meet(&minority);
    for number in &minority {
        cluster.host(*number).await_quorum(true);
    }
    cluster.await_synced();
    assert_eq!(cluster.host(count).read("majority").unwrap(), b"5");
    bear(&cluster, count, load_time);
    cluster.stop_and_compare();
}

/// A program of each host changes things for a while.
fn bear(cluster: &Cluster, count: usize, load_time: Duration) {
    let writers = (1..=count).map(|host| Writer::new(host, &format!("on-{host}"), host as u64));
    let mut writers: Vec<Writer> = writers.collect();
    let begin = Instant::now();
    Load::around(cluster, &mut writers, |load| {
        while begin.elapsed() < load_time {
            load.await_progress(cluster);
        }
    });
    cluster.await_synced();
    assert_nothing_lost(cluster, &writers);
    let done: u64 = writers
        .iter()
        .map(|writer| writer.report().success_count)
        .sum();
    tell(&format!("{done} changes by {count} hosts in {load_time:?}"));
}
