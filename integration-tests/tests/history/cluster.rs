//! Histories of several nodes.

use integration_tests::{Cluster, ClusterHost, daemon};
use serde_json::Value;

use crate::text;

/// Operation, path, node and source of each record, the oldest first; gaps of a start aside.
fn told(host: &ClusterHost) -> Vec<(String, String, String, String)> {
    let program = daemon::control_program().to_str().unwrap();
    let output = host.run(program, &["history", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().rev();
    let records = records.map(|line| serde_json::from_str::<Value>(line).unwrap());
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
