//! Synchronisations in which somebody dies.
//!
//! A node that has been away comes back while another process holds its database. So it has everything that the leader sends, and
//! cannot finish; whatever happens then happens in the middle of a synchronisation.

use integration_tests::cluster::{DatabaseHolder, Load, Writer, assert_nothing_lost};
use integration_tests::{Cluster, ClusterHost};

use crate::beside_others;

/// What the joiner logs when it has seen that it needs updates.
const UPDATING: &str = "waiting for updates from leader";

/// Node 3 in the middle of a synchronisation.
fn hold_up_joiner(load: &Load, cluster: &Cluster) -> DatabaseHolder {
    let joiner = cluster.host(3);
    let before = joiner.log_count(UPDATING);
    load.part(joiner, ClusterHost::kill_corosync);
    load.await_refusal(3, cluster);
    load.await_progress_on(&[1, 2], cluster);
    cluster.await_departure(3);
    let holder = joiner.hold_database();
    joiner.start_corosync();
    cluster.expect("the joiner to get updates", || {
        (joiner.log_count(UPDATING) > before).then_some(())
    });
    holder
}

/// Tells a story in the middle of a synchronisation, under load on all nodes; in the end everything is there.
fn interrupted(rounds: usize, story: impl Fn(&Load, &Cluster, DatabaseHolder)) {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let mut writers = Writer::on(&[1, 2, 3]);
    for _ in 0..rounds {
        Load::around(&cluster, &mut writers, |load| {
            let holder = hold_up_joiner(load, &cluster);
            story(load, &cluster, holder);
        });
        cluster.await_synced();
        assert_nothing_lost(&cluster, &writers);
    }
    cluster.stop_and_compare();
}

#[test]
fn the_leader_is_killed() {
    interrupted(2, |_, cluster, holder| {
        cluster.host(1).kill_daemon();
        drop(holder);
        cluster.host(1).start_daemon();
    });
}

#[test]
fn the_leader_is_killed_and_back_before_the_joiner_can_finish() {
    interrupted(1, |load, cluster, holder| {
        cluster.host(1).kill_daemon();
        load.await_progress_on(&[2], cluster);
        cluster.host(1).start_daemon();
        load.await_progress_on(&[1, 2], cluster);
        drop(holder);
    });
}

#[test]
fn the_joiner_is_killed() {
    interrupted(2, |load, cluster, holder| {
        load.await_progress_on(&[1, 2], cluster);
        cluster.host(3).kill_daemon();
        drop(holder);
        cluster.host(3).start_daemon();
    });
}

#[test]
fn the_joiners_corosync_is_killed() {
    interrupted(2, |_, cluster, holder| {
        cluster.host(3).kill_corosync();
        drop(holder);
        cluster.await_departure(3);
        cluster.host(3).start_corosync();
    });
}

#[test]
fn another_member_is_killed() {
    interrupted(1, |load, cluster, holder| {
        cluster.host(2).kill_daemon();
        load.await_progress_on(&[1], cluster);
        drop(holder);
        load.await_progress_on(&[1, 3], cluster);
        cluster.host(2).start_daemon();
    });
}

#[test]
fn the_leaders_corosync_is_killed() {
    interrupted(1, |load, cluster, holder| {
        load.part(cluster.host(1), ClusterHost::kill_corosync);
        drop(holder);
        cluster.await_departure(1);
        cluster.host(1).start_corosync();
    });
}

#[test]
fn another_node_joins_too() {
    interrupted(1, |load, cluster, holder| {
        cluster.host(2).stop_daemon();
        load.await_progress_on(&[1], cluster);
        cluster.host(2).start_daemon();
        drop(holder);
    });
}
