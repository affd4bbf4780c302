//! Start, join, leave, and what every node then sees.

use std::io::ErrorKind;

use integration_tests::Cluster;
use integration_tests::cluster::LIMIT;
use integration_tests::wait;

use crate::beside_others;

#[test]
fn without_corosync_a_node_serves_reads_and_refuses_writes() {
    let _turn = beside_others();
    let cluster = Cluster::new(1);
    cluster.host(1).start_daemon();
    let host = cluster.host(1);
    assert!(host.read("corosync.conf").unwrap().starts_with(b"totem"));
    assert_eq!(
        host.write("x", b"x").unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    assert_eq!(host.mode("corosync.conf").unwrap(), 0o440);
    assert_eq!(host.mode("local").unwrap(), 0o555);
    assert!(host.members().unwrap().is_empty());
    // Status does not need the cluster.
    host.ipc(|ipc| ipc.set_status("key", b"value").unwrap());
    assert_eq!(
        host.ipc(|ipc| ipc.status("key", "node1").unwrap()),
        b"value"
    );

    host.start_corosync();
    cluster.expect("writes to work once corosync is there", || {
        host.write("x", b"x").ok()
    });
    cluster.expect("write permission to show", || {
        (host.mode("corosync.conf").ok()? == 0o640).then_some(())
    });
    cluster.expect("the node list", || {
        let members = host.members().ok()?;
        members.get("node1")?.is_online.then_some(())
    });
    cluster.stop_and_compare();
}

#[test]
fn members_see_each_other_and_each_others_changes() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    for host in cluster.hosts() {
        cluster.expect("all nodes online with their addresses", || {
            let members = host.members().ok()?;
            let all = (1..=3u64).all(|id| {
                members.get(&format!("node{id}")).is_some_and(|member| {
                    member.id == id
                        && member.is_online
                        && member.address == Some(format!("10.77.0.{id}"))
                })
            });
            all.then_some(())
        });
    }

    let one = cluster.host(1);
    one.mkdir_all("nodes/node1/qemu-server").unwrap();
    one.write("nodes/node1/qemu-server/100.conf", b"name: web\n")
        .unwrap();
    let two = cluster.host(2);
    cluster.expect("the guest on another node", || {
        let list = String::from_utf8(two.read(".vmlist").ok()?).ok()?;
        list.contains("\"100\"").then_some(())
    });
    let twice = two.write("nodes/node2/qemu-server/100.conf", b"");
    assert!(twice.is_err(), "there is no such directory");
    two.mkdir_all("nodes/node2/qemu-server").unwrap();
    let twice = two.write("nodes/node2/qemu-server/100.conf", b"");
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::AlreadyExists);

    two.ipc(|ipc| ipc.set_status("load", b"0.7").unwrap());
    let three = cluster.host(3);
    cluster.expect("a status value on another node", || {
        let value = three.ipc(|ipc| ipc.status("load", "node2")).ok()?;
        (value == b"0.7").then_some(())
    });
    cluster.expect("the log of all nodes", || {
        let log = String::from_utf8(three.read(".clusterlog").ok()?).ok()?;
        let all = ["node1", "node2", "node3"]
            .iter()
            .all(|node| log.contains(&format!("\"node\": \"{node}\"")));
        all.then_some(())
    });

    cluster.host(2).stop_daemon();
    let one = cluster.host(1);
    cluster.expect("the stopped node to be offline", || {
        (!one.members().ok()?.get("node2")?.is_online).then_some(())
    });
    cluster.stop_and_compare();
}

#[test]
fn an_empty_node_and_one_with_older_data_join() {
    let _turn = beside_others();
    join_older(&[]);
}

pub(crate) fn join_older(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    for number in 0..200 {
        let path = format!("file{number}");
        cluster.host(1).write(&path, path.as_bytes()).unwrap();
    }
    // Larger than corosync sends in one piece.
    let large = vec![b'z'; 1024 * 1024];
    cluster.host(1).write("large", &large).unwrap();
    cluster.host(3).stop_daemon();
    cluster.host(1).remove("file0").unwrap();
    cluster.host(2).rename("file1", "renamed").unwrap();
    cluster.host(3).start_daemon();
    cluster.await_synced();
    let three = cluster.host(3);
    let is_gone = three.look(|| three.read("file0").err());
    assert!(is_gone.is_some(), "deletions travel");
    let renamed = three.look(|| three.read("renamed").ok());
    assert_eq!(renamed.as_deref(), Some(&b"file1"[..]));

    cluster.host(3).stop_daemon();
    cluster.host(3).remove_database();
    cluster.host(3).start_daemon();
    cluster.await_synced();
    assert_eq!(cluster.host(3).read("large").unwrap(), large);
    cluster.stop_and_compare();
}

#[test]
fn a_node_with_newer_data_brings_the_others_up_to_date() {
    let _turn = beside_others();
    join_newer(&[]);
}

pub(crate) fn join_newer(with_c: &[usize]) {
    let cluster = Cluster::mixed(3, with_c);
    cluster.host(1).write("old", b"1").unwrap();
    cluster.host(3).stop_daemon();
    // Nodes 1 and 2 stop after node 3, then start before it with what they had.
    let two = cluster.host(2);
    two.write("newest", b"2").unwrap();
    cluster.host(1).kill_daemon();
    cluster.host(2).write("newer still", b"3").unwrap();
    cluster.host(2).stop_daemon();
    for number in [1, 3, 2] {
        cluster.host(number).start_daemon();
    }
    cluster.await_synced();
    for host in cluster.hosts() {
        let data = host.look(|| host.read("newer still").ok());
        assert_eq!(data.as_deref(), Some(&b"3"[..]), "{}", host.name());
    }
    cluster.stop_and_compare();
}

#[test]
fn five_nodes_run_and_two_may_leave() {
    let _turn = beside_others();
    let cluster = Cluster::running(5);
    cluster.host(1).kill_daemon();
    cluster.host(2).kill_corosync();
    let four = cluster.host(4);
    wait::until("three of five to go on", LIMIT, || {
        four.write("after", b"4").ok()
    });
    cluster.host(2).kill_daemon();
    cluster.await_departure(2);
    cluster.host(2).start_corosync();
    cluster.host(2).start_daemon();
    cluster.host(1).start_daemon();
    cluster.await_synced();
    cluster.stop_and_compare();
}
