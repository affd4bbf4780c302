//! The nodes that corosync has loaded.

use std::sync::mpsc;

use pmxcfs_services::cluster_config::{ClusterConfig, ClusterConfigService};
use pmxcfs_services::framework::{Manager, ServiceState};

use super::host::{Configuration, LIMIT, on_host, within};

const LONG_NAME: &str = "a-node-with-a-name-that-fills-more-than-sixteen-bytes";

fn configuration<'a>(version: u32, nodes: &'a [&'a [u8]]) -> Configuration<'a> {
    Configuration {
        cluster: "a-cluster-with-a-name-of-more-than-16-bytes",
        version,
        nodes,
        ..Configuration::default()
    }
}

fn names(config: &ClusterConfig) -> Vec<(u32, &str)> {
    let nodes = config.nodes.iter();
    nodes.map(|(id, name)| (*id, name.as_str())).collect()
}

/// Takes lists until one is as expected.
fn list_that(
    lists: &mpsc::Receiver<ClusterConfig>,
    is_expected: impl Fn(&ClusterConfig) -> bool,
) -> ClusterConfig {
    loop {
        let list = lists.recv_timeout(LIMIT).expect("a list");
        if is_expected(&list) {
            return list;
        }
    }
}

fn version(lists: &mpsc::Receiver<ClusterConfig>, version: u64) -> ClusterConfig {
    list_that(lists, |list| list.version == version)
}

#[test]
fn nodes_are_told_after_each_connection_and_each_change() {
    let nodes: &[&[u8]] = &[LONG_NAME.as_bytes(), b"node2", b"node3"];
    on_host(&configuration(5, nodes), |host| {
        let runtime = host.runtime();
        let (sender, lists) = mpsc::channel();
        let sink = move |list| sender.send(list).expect("the test takes it");
        let mut manager = Manager::new(runtime.handle().clone());
        let mut state = manager.start(ClusterConfigService::new(Box::new(sink)));
        let list = version(&lists, 5);
        assert_eq!(list.name, "a-cluster-with-a-name-of-more-than-16-bytes");
        let expected = [(1, LONG_NAME), (2, "node2"), (3, "node3")];
        assert_eq!(names(&list), expected);

        // Corosync tells of one key after the other: the last list is the one that counts.
        host.configure(&configuration(6, &[LONG_NAME.as_bytes(), b"renamed"]));
        host.run("corosync-cfgtool", &["-R"]);
        let is_new = |list: &ClusterConfig| {
            list.version == 6 && names(list) == [(1, LONG_NAME), (2, "renamed")]
        };
        list_that(&lists, is_new);

        host.kill_corosync();
        let waits = |state: &ServiceState| matches!(state, ServiceState::Waiting { .. });
        let waiting = runtime.block_on(within("a pause", state.wait_for(waits)));
        drop(waiting.expect("the service exists"));
        assert!(
            lists.try_iter().all(|list| is_new(&list)),
            "nobody said anything new"
        );

        host.configure(&configuration(7, &[LONG_NAME.as_bytes()]));
        host.start_corosync();
        let list = version(&lists, 7);
        assert_eq!(names(&list), [(1, LONG_NAME)]);
        assert!(runtime.block_on(manager.stop(LIMIT)).is_empty());
    });
}

#[test]
fn a_name_that_is_not_utf8_costs_no_other_node_its_place() {
    on_host(
        &configuration(1, &[b"node1", b"kn\xf6del", b"node3"]),
        |host| {
            let runtime = host.runtime();
            let (sender, lists) = mpsc::channel();
            let sink = move |list| sender.send(list).expect("the test takes it");
            let mut manager = Manager::new(runtime.handle().clone());
            manager.start(ClusterConfigService::new(Box::new(sink)));
            let list = version(&lists, 1);
            let expected = [(1, "node1"), (2, "127.0.0.2"), (3, "node3")];
            assert_eq!(names(&list), expected);
            assert!(runtime.block_on(manager.stop(LIMIT)).is_empty());
        },
    );
}
