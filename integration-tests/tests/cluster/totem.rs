//! The cluster's corosync.conf becomes that of every host.

use integration_tests::Cluster;
use integration_tests::cluster::ClusterHost;

use crate::beside_others;

/// Corosync's own tool, started when a file says so, and a list of who called it.
const HELD_TOOL: &str = r#"case $1 in
-R)
    echo "$(hostname)" >> /run/reloads
    while [ -e /run/hold ]; do sleep 0.1; done;;
esac
exec /run/corosync-cfgtool "$@""#;

fn reload_count(host: &ClusterHost) -> usize {
    let output = host.run("cat", &["/run/reloads"]);
    output.stdout.split(|byte| *byte == b'\n').count() - 1
}

/// As the tools do: written beside it, then renamed over it. Each host has a name of its own for that, since it may not have
/// seen yet that another one has renamed its file.
fn replace(host: &ClusterHost, text: &str) {
    let new = format!("corosync.conf.{}", host.name());
    host.write(&new, text.as_bytes()).unwrap();
    host.rename(&new, "corosync.conf").unwrap();
}

fn await_on_disk(cluster: &Cluster, hosts: &[usize], text: &str) {
    for number in hosts {
        let host = cluster.host(*number);
        cluster.expect("the file on the host", || {
            (host.corosync_conf_on_disk() == text).then_some(())
        });
    }
}

#[test]
fn a_new_corosync_conf_reaches_every_host_and_is_loaded() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    for host in cluster.hosts() {
        host.replace_cfgtool(HELD_TOOL);
        host.script("touch /run/hold");
    }
    let newer = ClusterHost::corosync_conf(3, 2);
    replace(cluster.host(2), &newer);
    await_on_disk(&cluster, &[1, 2, 3], &newer);
    cluster.expect("the sender to tell corosync", || {
        (reload_count(cluster.host(2)) == 1).then_some(())
    });
    // Corosync's tool does not come back, and nobody waits for it.
    cluster.await_synced();
    for host in cluster.hosts() {
        let document = String::from_utf8(host.read(".members").unwrap()).unwrap();
        assert!(
            document.contains("\"version\": 1, \"nodes\": 3"),
            "{document}"
        );
    }
    cluster.host(2).script("rm /run/hold");
    for host in cluster.hosts() {
        cluster.expect("corosync to have loaded it", || {
            let document = String::from_utf8(host.read(".members").ok()?).ok()?;
            document
                .contains("\"version\": 2, \"nodes\": 3")
                .then_some(())
        });
    }
    assert_eq!(
        reload_count(cluster.host(1)) + reload_count(cluster.host(3)),
        0
    );
    cluster.stop_and_compare();
}

#[test]
fn what_is_older_or_not_a_configuration_stays_off_the_disk() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let newer = ClusterHost::corosync_conf(3, 5);
    replace(cluster.host(1), &newer);
    await_on_disk(&cluster, &[1, 2, 3], &newer);

    replace(cluster.host(1), &ClusterHost::corosync_conf(3, 4));
    replace(cluster.host(2), "totem { }\n");
    for (host, complaint) in [
        (1, "local corosync.conf is newer"),
        (3, "unable to parse cluster config_version"),
    ] {
        let host = cluster.host(host);
        cluster.expect(complaint, || (host.log_count(complaint) > 0).then_some(()));
    }
    cluster.host(1).remove("corosync.conf").unwrap();
    cluster.await_synced();
    await_on_disk(&cluster, &[1, 2, 3], &newer);

    // The same version with another text is written, by whomever.
    let other = format!("# {newer}");
    replace(cluster.host(3), &other);
    await_on_disk(&cluster, &[1, 2, 3], &other);
    cluster.stop_and_compare();
}

#[test]
fn a_node_that_was_away_gets_it_with_the_tree() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    three.stop_daemon();
    let newer = ClusterHost::corosync_conf(3, 2);
    replace(cluster.host(1), &newer);
    await_on_disk(&cluster, &[1, 2], &newer);
    assert_ne!(three.corosync_conf_on_disk(), newer);
    three.start_daemon();
    await_on_disk(&cluster, &[3], &newer);
    cluster.await_synced();
    cluster.stop_and_compare();
}

#[test]
fn a_node_is_added_and_removed() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let names = |host: &ClusterHost| -> Option<Vec<String>> {
        Some(host.members().ok()?.into_keys().collect())
    };
    for (size, version) in [(4, 2), (3, 3)] {
        replace(cluster.host(1), &ClusterHost::corosync_conf(size, version));
        let expected: Vec<String> = (1..=size).map(|number| format!("node{number}")).collect();
        for host in cluster.hosts() {
            cluster.expect("the nodes of the new configuration", || {
                (names(host)? == expected).then_some(())
            });
        }
        if size == 4 {
            let added = cluster.host(2).members().unwrap().remove("node4");
            assert!(added.is_some_and(|member| !member.is_online && member.id == 4));
        }
    }
    cluster.await_synced();
    for host in cluster.hosts() {
        cluster.expect("all nodes online", || {
            let members = host.members().ok()?;
            members
                .values()
                .all(|member| member.is_online)
                .then_some(())
        });
    }
    cluster.stop_and_compare();
}
