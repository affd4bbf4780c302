//! Members whose mount outlives the daemon.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use integration_tests::cluster::{LIMIT, Load, Writer, assert_nothing_lost};
use integration_tests::{Cluster, tell, wait};

use crate::beside_others;

/// How long after its start a member may take to be quorate again, before it refuses changes.
const COMEBACK: Duration = Duration::from_secs(5);

/// Errors that a program may get for a change that was under way.
const UNKNOWN_OUTCOME: [&str; 2] = ["EBUSY", "EIO"];

/// Kills, and as many changes of the program.
fn rounds() -> usize {
    let set = std::env::var("PMXCFS_KILLS").ok();
    set.map_or(6, |number| number.parse().unwrap())
}

#[test]
fn members_are_killed_and_changed_and_go_on() {
    let _turn = beside_others();
    members_go_on(&[]);
}

/// The daemon of a member is killed while programs of all members change things, and that of another changes its program meanwhile.
pub(crate) fn members_go_on(with_c: &[usize]) {
    let cluster = Cluster::supervised(3, with_c);
    let ours: Vec<usize> = (1..=3).filter(|host| !with_c.contains(host)).collect();
    let hosts = [1, 2, 3, 1, 2, 3];
    let writers = hosts.iter().enumerate();
    let mut writers: Vec<Writer> = writers
        .map(|(number, host)| Writer::new(*host, &format!("{number}-on-{host}"), number as u64))
        .collect();
    Load::around(&cluster, &mut writers, |load| {
        for round in 0..rounds() {
            let killed = cluster.host(ours[round % ours.len()]);
            let changed = cluster.host(ours[(round + 1) % ours.len()]);
            killed.kill_daemon();
            std::thread::scope(|scope| {
                let change = || scope.spawn(|| changed.reload_daemon());
                let change = (changed.number() != killed.number()).then(change);
                killed.relaunch_daemon();
                change.map_or_else(|| changed.reload_daemon(), |change| change.join().unwrap());
            });
            load.await_progress(&cluster);
        }
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    let ours = hosts
        .iter()
        .zip(&writers)
        .filter(|(host, _)| ours.contains(host));
    for (_, writer) in ours {
        longest = longest.max(writer.report().longest.0);
        for (errno, count) in &writer.report().failures {
            *failures.entry(errno).or_default() += count;
        }
    }
    tell(&format!(
        "errors: {failures:?}; the longest operation took {longest:?}"
    ));
    let is_expected = failures.keys().all(|errno| UNKNOWN_OUTCOME.contains(errno));
    assert!(is_expected, "{failures:?}\n{cluster}");
    cluster.stop_and_compare();
}

#[test]
fn a_member_that_has_no_quorum_yet_serves_reads_while_changes_wait() {
    let _turn = beside_others();
    let cluster = Cluster::supervised(3, &[]);
    let three = cluster.host(3);
    three.mkdir("read").unwrap();
    three.mkdir("changed").unwrap();
    three.write("read/f", b"content").unwrap();
    for number in [1, 2] {
        cluster.host(number).kill_corosync();
    }
    wait::until("changes to be refused", LIMIT, || {
        let error = three.write("changed/f", b"").err()?;
        (error.kind() == ErrorKind::PermissionDenied).then_some(())
    });
    three.kill_daemon();
    let launched = Instant::now();
    three.relaunch_daemon();
    let mut read_count = 0;
    let change = std::thread::scope(|scope| {
        // The kernel locks the directory, so nobody looks a name up in it until the change has its answer.
        let change = scope.spawn(|| three.write("changed/f", b"x"));
        while !change.is_finished() {
            assert_eq!(three.read("read/f").unwrap(), b"content");
            read_count += 1;
        }
        change.join().unwrap()
    });
    assert_eq!(change.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(launched.elapsed() >= COMEBACK, "{:?}", launched.elapsed());
    assert!(read_count >= 10, "{read_count} reads meanwhile");
    for number in [1, 2] {
        cluster.host(number).start_corosync();
    }
    cluster.await_synced();
    cluster.stop_and_compare();
}
