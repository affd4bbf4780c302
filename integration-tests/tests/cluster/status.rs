//! What every node tells the others beside the tree.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime};

use integration_tests::cluster::LIMIT;
use integration_tests::ipc_client::IpcError;
use integration_tests::{Cluster, ClusterHost, Over, wait};
use nix::errno::Errno;

use crate::beside_others;

fn value(host: &ClusterHost, key: &str, node: &str) -> Result<Vec<u8>, IpcError> {
    host.ipc(|ipc| ipc.status(key, node))
}

fn set(host: &ClusterHost, key: &str, value: &[u8]) {
    host.ipc(|ipc| ipc.set_status(key, value)).unwrap();
}

fn await_value(cluster: &Cluster, key: &str, node: &str, expected: &[u8]) {
    for host in cluster.hosts().iter().filter(|host| host.has_daemon()) {
        let what = format!("{key} of {node} on {}", host.name());
        cluster.expect(&what, || {
            (value(host, key, node).ok()? == expected).then_some(())
        });
    }
}

#[test]
fn keys_and_values_of_all_nodes_are_known_to_all() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    for host in cluster.hosts() {
        set(host, "load", host.name().as_bytes());
        set(host, "same", b"1\0");
    }
    set(cluster.host(2), "large", &[b'v'; 32768]);
    for host in cluster.hosts() {
        await_value(&cluster, "load", host.name(), host.name().as_bytes());
    }
    await_value(&cluster, "large", "node2", &[b'v'; 32768]);
    set(cluster.host(1), "same", b"2\0");
    await_value(&cluster, "same", "node1", b"2\0");
    await_value(&cluster, "same", "node3", b"1\0");
    let too_large = cluster
        .host(1)
        .ipc(|ipc| ipc.set_status("huge", &[0; 32769]));
    assert_eq!(too_large, Err(IpcError::Refused(Errno::EFBIG)));

    // Without a value the key is gone, everywhere.
    set(cluster.host(2), "large", b"");
    for host in cluster.hosts() {
        cluster.expect("the key to be gone", || {
            let refused = value(host, "large", "node2").err()?;
            (refused == IpcError::Refused(Errno::ENOENT)).then_some(())
        });
    }

    // Versions tell who polls that there is something new.
    let version = |host: &ClusterHost| -> Option<u64> {
        let document: serde_json::Value =
            serde_json::from_slice(&host.read(".version").ok()?).ok()?;
        document["kvstore"]["node1"]["load"].as_u64()
    };
    let three = cluster.host(3);
    let before = version(three).unwrap();
    set(cluster.host(1), "load", b"new");
    cluster.expect("a new version", || (version(three)? > before).then_some(()));

    // A node that comes back hears of them again; its own are gone with its process.
    three.kill_daemon();
    three.start_daemon();
    await_value(&cluster, "load", "node1", b"new");
    await_value(&cluster, "load", "node2", b"node2");
    assert_eq!(
        value(three, "load", ""),
        Err(IpcError::Refused(Errno::ENOENT))
    );
    cluster.stop_and_compare();
}

#[test]
fn rrd_values_of_all_nodes_are_known_to_all() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let now = seconds();
    for host in cluster.hosts() {
        let key = format!("rrd/pve2-storage/{}/local", host.name());
        set(
            host,
            &key,
            format!("{now}:1000:{}\0", host.number()).as_bytes(),
        );
    }
    let expected: BTreeSet<String> = (1..=3)
        .map(|number| format!("pve2-storage/node{number}/local:{now}:1000:{number}"))
        .collect();
    for host in cluster.hosts() {
        cluster.expect("the values of all nodes", || {
            let text = String::from_utf8(host.read(".rrd").ok()?).ok()?;
            let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
            (lines == expected).then_some(())
        });
        for other in cluster.hosts() {
            let file = format!("pve-storage-9.0/{}/local", other.name());
            cluster.expect(&format!("{file} on {}", host.name()), || {
                let path = format!("/var/lib/rrdcached/db/{file}");
                host.run("test", &["-s", &path])
                    .status
                    .success()
                    .then_some(())
            });
        }
    }
    cluster.stop_and_compare();
}

fn log(host: &ClusterHost, text: &str) {
    host.ipc(|ipc| ipc.log(6, "root@pam", "test", text))
        .unwrap();
}

/// Who wrote what, the newest first.
type Entries = Vec<(String, String)>;

fn entries(host: &ClusterHost) -> Option<Entries> {
    let document = host.ipc(|ipc| ipc.cluster_log(1000, "")).ok()?;
    let end = document.iter().rposition(|byte| *byte != 0)? + 1;
    let document: serde_json::Value = serde_json::from_slice(&document[..end]).ok()?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = document["data"].as_array()?.iter();
    Some(
        entries
            .filter(|entry| entry["tag"] == "test")
            .map(|entry| (text(&entry["node"]), text(&entry["msg"])))
            .collect(),
    )
}

/// The logs of all hosts with a daemon.
fn logs(cluster: &Cluster) -> Option<Vec<Entries>> {
    let running = cluster.hosts().iter().filter(|host| host.has_daemon());
    running.map(entries).collect()
}

/// A node has its own entries at once, and those of others when they come.
fn await_all_entries(cluster: &Cluster, count: usize) {
    let mut missing = Vec::new();
    let found = wait::try_until(LIMIT, || {
        let logs = logs(cluster)?;
        let all: BTreeSet<_> = logs.iter().flatten().collect();
        missing = logs
            .iter()
            .map(|log| all.iter().filter(|entry| !log.contains(entry)))
            .map(|missing| missing.map(|entry| format!("{entry:?}")).collect())
            .collect();
        let is_complete = |log: &Entries| log.len() == count && log.len() == all.len();
        logs.iter().all(is_complete).then_some(())
    });
    let missing: Vec<Vec<String>> = missing;
    assert!(
        found.is_some(),
        "{count} entries, missing {missing:?}\n{cluster}"
    );
}

#[test]
fn the_log_is_one_and_survives_its_writers() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    for round in 0..5 {
        for host in cluster.hosts() {
            log(host, &format!("{round} of {}", host.name()));
        }
    }
    await_all_entries(&cluster, 15);
    // When the members change, all put them in one order.
    let await_equal = |count: usize| {
        cluster.expect("the same log everywhere", || {
            let logs = logs(&cluster)?;
            (logs[0].len() == count && logs.iter().all(|log| *log == logs[0])).then_some(())
        });
    };

    // Entries made while a node is cut off reach it later, its own reach the others.
    let three = cluster.host(3);
    three.cut();
    three.await_quorum(false);
    log(three, "alone");
    log(cluster.host(1), "together");
    three.heal();
    await_equal(17);

    // The writer of an entry is gone, the entry is not.
    three.kill_daemon();
    three.start_daemon();
    await_equal(17);
    cluster.stop_and_compare();
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is after 1970").as_secs()
}

#[test]
fn what_is_logged_while_a_node_joins_reaches_all() {
    const JOIN_COUNT: usize = 5;
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let three = cluster.host(3);
    let mut count = 0;
    for join in 0..JOIN_COUNT {
        three.stop_daemon();
        // Entries are told apart by node, second and number, and every daemon counts from 1.
        let second = seconds();
        wait::until("another second", LIMIT, || {
            (seconds() > second).then_some(())
        });
        let over = Over::new();
        let write_until_joined = |host: &ClusterHost| {
            let mut number = 0;
            while !over.is_over() {
                log(host, &format!("{join}.{number}"));
                number += 1;
                // As a busy cluster, not as an attacker: the log keeps some hundred entries.
                thread::park_timeout(Duration::from_millis(50));
            }
            number
        };
        count += thread::scope(|scope| {
            let work = over.begin();
            let writers = [1, 2].map(|number| {
                let host = cluster.host(number);
                scope.spawn(|| write_until_joined(host))
            });
            three.start_daemon();
            log(three, &format!("{join}"));
            cluster.await_synced();
            drop(work);
            writers.map(|writer| writer.join().expect("a writer does not panic"))
        })
        .iter()
        .sum::<usize>();
        count += 1;
        await_all_entries(&cluster, count);
    }
    cluster.stop_and_compare();
}

#[test]
fn the_guest_list_follows_what_other_nodes_do() {
    let _turn = beside_others();
    let cluster = Cluster::running(3);
    let [one, two, three] = [1, 2, 3].map(|number| cluster.host(number));
    for host in cluster.hosts() {
        one.mkdir_all(&format!("nodes/{}/qemu-server", host.name()))
            .unwrap();
        one.mkdir_all(&format!("nodes/{}/lxc", host.name()))
            .unwrap();
    }
    let guests = |host: &ClusterHost| -> Option<BTreeSet<(String, String, String)>> {
        let document: serde_json::Value =
            serde_json::from_slice(&host.read(".vmlist").ok()?).ok()?;
        let Some(ids) = document["ids"].as_object() else {
            return Some(BTreeSet::new());
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let guests = ids.iter();
        Some(
            guests
                .map(|(id, guest)| (id.clone(), text(&guest["node"]), text(&guest["type"])))
                .collect(),
        )
    };
    let await_guests = |expected: &[(&str, &str, &str)]| {
        let own = |(id, node, kind): &(&str, &str, &str)| {
            ((*id).to_owned(), (*node).to_owned(), (*kind).to_owned())
        };
        let expected: BTreeSet<_> = expected.iter().map(own).collect();
        for host in cluster.hosts() {
            cluster.expect(&format!("{expected:?} on {}", host.name()), || {
                (guests(host)? == expected).then_some(())
            });
        }
    };
    one.write("nodes/node1/qemu-server/100.conf", b"name: web\n")
        .unwrap();
    two.write("nodes/node2/lxc/101.conf", b"hostname: db\n")
        .unwrap();
    await_guests(&[("100", "node1", "qemu"), ("101", "node2", "lxc")]);

    // Migration is a rename, on whichever node.
    three
        .rename(
            "nodes/node1/qemu-server/100.conf",
            "nodes/node3/qemu-server/100.conf",
        )
        .unwrap();
    await_guests(&[("100", "node3", "qemu"), ("101", "node2", "lxc")]);
    cluster.expect("the property of a guest that another node changes", || {
        two.write("nodes/node3/qemu-server/100.conf", b"name: shop\n")
            .ok()?;
        let answer = one.ipc(|ipc| ipc.guest_property(100, "name")).ok()?;
        String::from_utf8_lossy(&answer)
            .contains("shop")
            .then_some(())
    });

    // One id is one guest, whoever asks.
    let twice = one.write("nodes/node1/lxc/100.conf", b"").unwrap_err();
    assert_eq!(twice.kind(), std::io::ErrorKind::AlreadyExists);

    two.remove("nodes/node2/lxc/101.conf").unwrap();
    await_guests(&[("100", "node3", "qemu")]);

    // A synchronisation brings the list along.
    three.stop_daemon();
    one.remove("nodes/node3/qemu-server/100.conf").unwrap();
    one.write("nodes/node1/lxc/102.conf", b"").unwrap();
    three.start_daemon();
    await_guests(&[("102", "node1", "lxc")]);
    cluster.stop_and_compare();
}
