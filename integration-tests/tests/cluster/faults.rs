//! Processes that die or stand still while a cluster runs.

use std::io::ErrorKind;

use integration_tests::cluster::{LIMIT, Load, Writer, assert_nothing_lost};
use integration_tests::wait;
use integration_tests::{Cluster, ClusterHost};
use nix::sys::signal::Signal;

use crate::beside_others;

#[test]
fn corosync_is_killed_and_started_again() {
    let _turn = beside_others();
    corosync_killed(&[]);
}

pub(crate) fn corosync_killed(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        let two = cluster.host(2);
        load.part(two, ClusterHost::kill_corosync);
        wait::until("writes to be refused", LIMIT, || {
            let error = two.write("probe2", b"").err()?;
            (error.kind() == ErrorKind::PermissionDenied).then_some(())
        });
        load.await_refusal(2, &cluster);
        cluster.expect("others to be unknown", || {
            // The C daemon goes on showing them online.
            (two.is_c() || !two.members().ok()?.get("node1")?.is_online).then_some(())
        });
        cluster.await_departure(2);
        two.start_corosync();
        load.await_progress(&cluster);
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn corosync_is_killed_on_all_nodes_at_once() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        for host in cluster.hosts() {
            load.settle(host);
        }
        for host in cluster.hosts() {
            host.kill_corosync();
            load.resume(host.number());
        }
        for host in cluster.hosts() {
            load.await_refusal(host.number(), &cluster);
        }
        for host in cluster.hosts() {
            host.start_corosync();
        }
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn daemons_are_killed_under_load() {
    let _turn = beside_others();
    daemons_killed(&[]);
}

pub(crate) fn daemons_killed(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    let mut writers = Writer::on(&[1, 2, 3]);
    for victim in [3, 1, 2, 1] {
        Load::around(&cluster, &mut writers, |load| {
            let host = cluster.host(victim);
            host.kill_daemon();
            let other = cluster.host(victim % 3 + 1);
            cluster.expect("the dead node to be seen", || {
                (!other.members().ok()?.get(host.name())?.is_online).then_some(())
            });
            load.await_refusal(victim, &cluster);
            host.start_daemon();
        });
        cluster.await_synced();
        assert_nothing_lost(&cluster, &writers);
    }
    cluster.stop_and_compare();
}

#[test]
fn daemons_are_killed_on_all_nodes_at_once() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    Load::around(&cluster, &mut writers, |load| {
        for host in cluster.hosts() {
            host.signal_daemon(Signal::SIGKILL);
        }
        for host in cluster.hosts() {
            // A node that starts first, and alone, may lack the last writes: nobody may write until all are there.
            load.pause(host.number());
            host.kill_daemon();
        }
        for number in [2, 3, 1] {
            cluster.host(number).start_daemon();
        }
        cluster.await_synced();
        for host in cluster.hosts() {
            load.resume(host.number());
        }
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}

#[test]
fn nodes_are_stopped_one_at_a_time_while_others_write() {
    let _turn = beside_others();
    rolling_stop(&[]);
}

/// What a rolling upgrade does.
pub(crate) fn rolling_stop(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    for number in 1..=3 {
        let others = (1..=3).filter(|other| *other != number);
        let mut writers: Vec<Writer> = others
            .map(|other| Writer::new(other, &format!("{other}-without-{number}"), other as u64))
            .collect();
        Load::around(&cluster, &mut writers, |load| {
            cluster.host(number).stop_daemon();
            load.await_progress(&cluster);
            cluster.host(number).start_daemon();
        });
        cluster.await_synced();
        assert_nothing_lost(&cluster, &writers);
        for writer in &writers {
            let failures = &writer.report().failures;
            assert!(
                failures.is_empty(),
                "a stop or start of another node fails no write: {failures:?}"
            );
        }
    }
    cluster.stop_and_compare();
}

#[test]
fn a_stopped_daemon_holds_the_others_up_for_a_bounded_time_only() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    // It cannot answer a synchronisation, which a membership change begins.
    cluster.host(3).signal_daemon(Signal::SIGSTOP);
    cluster.host(2).kill_corosync();
    cluster.await_departure(2);
    cluster.host(2).start_corosync();
    let one = cluster.host(1);
    cluster.expect("the log to name who is missing", || {
        one.log()
            .contains("synchronisation waits for 3/")
            .then_some(())
    });
    cluster.host(3).signal_daemon(Signal::SIGCONT);
    cluster.await_synced();
    cluster.stop_and_compare();
}

#[test]
fn a_corosync_that_stands_still_is_left_out_and_comes_back() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2]);
    let three = cluster.host(3);
    Load::around(&cluster, &mut writers, |load| {
        three.signal_corosync(Signal::SIGSTOP);
        load.await_progress(&cluster);
        cluster.expect("the node to be offline", || {
            (!cluster.host(1).members().ok()?.get("node3")?.is_online).then_some(())
        });
        // Reading needs nobody.
        assert_eq!(three.read("probe").unwrap(), b"node3");
        three.signal_corosync(Signal::SIGCONT);
    });
    cluster.await_synced();
    assert_nothing_lost(&cluster, &writers);
    cluster.stop_and_compare();
}
