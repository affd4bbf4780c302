//! Histories of several nodes.

use std::collections::BTreeSet;

use integration_tests::{Cluster, ClusterHost, daemon};
use serde_json::Value;

use crate::text;

/// All records, the oldest first.
fn all(host: &ClusterHost) -> Vec<Value> {
    let program = daemon::control_program().to_str().unwrap();
    let output = host.run(program, &["history", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().rev();
    records
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Operation, path, node and source of each record, the oldest first; gaps of a start aside.
fn told(host: &ClusterHost) -> Vec<(String, String, String, String)> {
    let records = all(host).into_iter();
    let field = |record: &Value, name| text(record, name).to_owned();
    records
        .map(|record| {
            (
                field(&record, "operation"),
                field(&record, "path"),
                field(&record, "node"),
                field(&record, "source"),
            )
        })
        .collect()
}

#[test]
fn all_nodes_tell_the_same_and_one_that_was_away_learns_it_by_a_synchronisation() {
    let cluster = Cluster::running(3);
    let expected = |operation: &str, path: &str, node: &str, source: &str| {
        let texts = [operation, path, node, source].map(str::to_owned);
        let [operation, path, node, source] = texts;
        (operation, path, node, source)
    };
    cluster.host(1).write("a.cfg", b"one").unwrap();
    cluster.host(2).mkdir("dir").unwrap();
    cluster.expect("the first changes", || {
        cluster
            .host(3)
            .read("a.cfg")
            .ok()
            .filter(|content| content == b"one")
    });
    for host in cluster.hosts() {
        let told = told(host);
        for change in [
            expected("create", "a.cfg", "node1", "operation"),
            expected("mkdir", "dir", "node2", "operation"),
        ] {
            assert!(told.contains(&change), "{}: {told:?}", host.name());
        }
    }
    cluster.host(3).stop_daemon();
    cluster.host(2).write("a.cfg", b"two").unwrap();
    cluster.host(3).start_daemon();
    cluster.await_synced();
    let change = expected("content", "a.cfg", "node2", "operation");
    assert!(told(cluster.host(1)).contains(&change));
    let all = told(cluster.host(3));
    let learnt = all.iter().any(|(operation, path, _, source)| {
        (operation.as_str(), path.as_str(), source.as_str())
            == ("content", "a.cfg", "synchronisation")
    });
    assert!(learnt, "{all:?}");
    cluster.stop_and_compare();
}

/// What nodes cannot see in parts: version, operation, path, where it came from, node.
fn seen(host: &ClusterHost) -> BTreeSet<(u64, String)> {
    let records = all(host).into_iter();
    let whole = records.filter(|record| {
        let operation = text(record, "operation");
        text(record, "source") == "operation" && ["mkdir", "remove", "rename"].contains(&operation)
    });
    let seen = whole.map(|record| {
        let fields = ["operation", "path", "from", "node"];
        let fields = fields.map(|field| text(&record, field).to_owned());
        (record["version"].as_u64().unwrap(), fields.join(" "))
    });
    seen.collect()
}

#[test]
fn histories_agree_on_what_all_nodes_have_seen() {
    let cluster = Cluster::running(3);
    let change = |round: usize, numbers: &[usize]| {
        for &number in numbers {
            let host = cluster.host(number);
            let name = |name: &str| format!("{name}-{number}-{round}");
            host.mkdir(&name("dir")).unwrap();
            host.write(&name("new"), b"x").unwrap();
            host.rename(&name("new"), &name("file")).unwrap();
            host.write(&name("gone"), b"x").unwrap();
            host.remove(&name("gone")).unwrap();
        }
    };
    change(1, &[1, 2, 3]);
    cluster.await_synced();
    cluster.host(3).stop_daemon();
    change(2, &[1, 2]);
    cluster.host(3).start_daemon();
    cluster.await_synced();
    change(3, &[1, 2, 3]);
    let last = "gone-3-3";
    let histories = [1, 2, 3].map(|number| {
        let host = cluster.host(number);
        cluster.expect("the last change", || {
            let seen = seen(host);
            let has_last = seen.iter().any(|(_, change)| change.contains(last));
            has_last.then_some(seen)
        })
    });
    let [one, two, three] = histories;
    assert_eq!(one, two);
    assert_eq!(one.len(), 3 * 3 + 2 * 3 + 3 * 3);
    // Node 3 was away in the second round.
    let missed = |change: &str| ["1-2", "2-2"].iter().any(|name| change.contains(name));
    let expected: BTreeSet<_> = one
        .into_iter()
        .filter(|(_, change)| !missed(change))
        .collect();
    assert_eq!(three, expected);
    cluster.stop_and_compare();
}
