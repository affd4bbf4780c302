//! What is told of a cluster: by a real member without corosync, and by reports that stand for all that members can say.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use integration_tests::daemon::RESOLVABLE_NAME;
use integration_tests::{Check, Host};
use serde_json::{Value, json};

use crate::exposition::Page;
use crate::{Answer, DEGRADED, FAILED, HEALTHY, ask, report_when, run};

#[test]
fn a_member_without_corosync_says_what_it_misses() {
    let host = Host::with_node_name(RESOLVABLE_NAME);
    fs::create_dir_all(host.corosync_conf().parent().unwrap()).unwrap();
    let text = "totem {\n  version: 2\n  config_version: 3\n  cluster_name: test\n}\n";
    fs::write(host.corosync_conf(), text).unwrap();
    let daemon = host.start_with(["-f"]);
    let codes = |report: &Value| -> Vec<String> {
        let problems = report["problems"].as_array().unwrap().iter();
        problems
            .map(|problem| problem["code"].as_str().unwrap().to_owned())
            .collect()
    };
    let report = report_when(&host, "lost connections to be told", |report| {
        codes(report).iter().any(|code| code == "corosync-lost")
    });
    assert_eq!(report["mode"], "cluster");
    assert_eq!(report["is_quorate"], false);
    let codes = codes(&report);
    assert_eq!(codes[0], "not-quorate", "{codes:?}");
    assert!(
        codes.iter().any(|code| code == "group-not-joined"),
        "{codes:?}"
    );
    let groups = report["cluster"]["groups"].as_array().unwrap();
    let names: Vec<&str> = groups
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["pve_dcdb_v1", "pve_kvstore_v1"]);
    for group in groups {
        assert_eq!(group["members"], json!([]));
        assert_eq!(group["is_connected"], false);
    }
    let text = ask(&host, ["status"]).expect(DEGRADED);
    assert!(text.contains("DEGRADED"), "{text}");
    assert!(
        text.contains("\nmode       cluster, NOT QUORATE\n"),
        "{text}"
    );
    let metrics = ask(&host, ["metrics"]).expect(HEALTHY);
    let page = Page::read(&metrics);
    assert_eq!(page.value("pmxcfs_quorate", &[]), 0.0);
    let group = ("group", "pve_dcdb_v1");
    assert_eq!(page.value("pmxcfs_group_connected", &[group]), 0.0);
    assert_eq!(
        page.value("pmxcfs_group_mode", &[group, ("mode", "start")]),
        1.0
    );
    daemon.stop();
}

/// A member in the midst of a synchronisation, as a daemon could send it, with more in it than this program knows.
fn a_synchronising_member() -> Value {
    let members = json!([
        {"node_id": 1, "pid": 100, "node_name": "pve1"},
        {"node_id": 2, "pid": 200, "node_name": "pve\"2\\\n"},
        {"node_id": 3, "pid": 300, "node_name": null},
    ]);
    json!({
        "version": "9.9", "pid": 100, "node_name": "pve1", "mode": "cluster", "is_quorate": true, "from_the_future": [1],
        "problems": [{"code": "synchronising", "text": "group pve_dcdb_v1 exchanges states"}],
        "cluster": {
            "name": "test", "config_version": 7,
            "nodes": [
                {"id": 1, "name": "pve1", "is_online": true},
                {"id": 2, "name": "pve\"2\\\n", "is_online": true},
                {"id": 3, "name": "pve3", "is_online": false},
            ],
            "groups": [
                {
                    "name": "pve_dcdb_v1", "mode": "start-sync", "is_connected": true, "members": members,
                    "waiting": {"members": [members[1], members[2]], "silent_ms": 12345},
                    "queued_count": 4, "pending_count": 3, "held_count": 2, "unsent_count": 1, "is_blocked": true, "age_ms": 250,
                },
                {"name": "pve_kvstore_v1", "mode": "a-mode-of-the-future", "is_connected": true, "members": members},
            ],
            "services": [
                {"name": "quorum", "is_running": true, "error": null},
                {"name": "cluster-config", "is_running": false, "error": "corosync \u{1b}[2Jis not there"},
            ],
        },
    })
}

/// Runs the program against a daemon that sends this.
fn told(answer: &[u8], arguments: &[&str]) -> Answer {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ctl.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            assert_eq!(request, "report\n");
            stream.write_all(answer).unwrap();
        });
        run(
            std::process::Command::new(integration_tests::daemon::control_program())
                .arg("--socket")
                .arg(Path::new(&socket))
                .args(arguments),
        )
    })
}

#[test]
fn text_tells_of_nodes_groups_and_whom_they_wait_for() {
    let report = a_synchronising_member().to_string();
    let text = told(report.as_bytes(), &["status"]).expect(DEGRADED);
    let mut check = Check::new();
    for line in [
        "pmxcfs     pve1: DEGRADED, 1 problem",
        "           ! synchronising: group pve_dcdb_v1 exchanges states",
        "mode       cluster, quorate",
        "cluster    test, 3 nodes, configuration version 7",
        "           pve1 (node 1): online",
        "           pve\"2\\? (node 2): online",
        "           pve3 (node 3): OFFLINE",
        "service    quorum: running",
        "service    cluster-config: FAILED: corosync ?[2Jis not there",
        "group      pve_dcdb_v1: exchanging states, 3 members: pve1 (node 1, pid 100), pve\"2\\? (node 2, pid 200), node 3 (pid 300)",
        "           WAITING for pve\"2\\? (node 2, pid 200), node 3 (pid 300), since 12 s",
        "           3 pending requests, 2 of them held, 4 messages queued, 1 unsent, corosync asks to wait",
    ] {
        check.holds(line, text.lines().any(|found| found == line));
    }
    check.holds(
        "a mode of the future",
        text.contains("group      pve_kvstore_v1: unknown, 3 members"),
    );
    drop(check);
    assert!(!text.contains('\x1b'), "terminals are not confused");
}

#[test]
fn text_has_words_for_each_mode_of_a_group() {
    for (mode, words) in [
        ("start", "not joined"),
        ("start-sync", "exchanging states"),
        ("synced", "synced"),
        ("update", "being updated"),
        ("leave", "leaving, to join again"),
        ("version-error", "left: newer protocol"),
        ("error", "left: error"),
    ] {
        let cluster = json!({"groups": [{"name": "g", "mode": mode}]});
        let report = json!({"version": "1", "cluster": cluster}).to_string();
        let text = told(report.as_bytes(), &["status"]).expect(HEALTHY);
        assert!(text.contains(&format!("group      g: {words}, ")), "{text}");
    }
}

#[test]
fn metrics_tell_of_nodes_groups_and_whom_they_wait_for() {
    let report = a_synchronising_member().to_string();
    let page = Page::read(&told(report.as_bytes(), &["metrics"]).expect(HEALTHY));
    let mut check = Check::new();
    let group = ("group", "pve_dcdb_v1");
    let odd = "pve\"2\\\n";
    for (name, labels, value) in [
        ("pmxcfs_config_version", &[][..], 7.0),
        ("pmxcfs_problems", &[("code", "synchronising")], 1.0),
        (
            "pmxcfs_node_online",
            &[("node", odd), ("node_id", "2")],
            1.0,
        ),
        (
            "pmxcfs_node_online",
            &[("node", "pve3"), ("node_id", "3")],
            0.0,
        ),
        ("pmxcfs_service_running", &[("service", "quorum")], 1.0),
        (
            "pmxcfs_service_running",
            &[("service", "cluster-config")],
            0.0,
        ),
        ("pmxcfs_group_mode", &[group, ("mode", "start-sync")], 1.0),
        ("pmxcfs_group_mode", &[group, ("mode", "synced")], 0.0),
        ("pmxcfs_group_members", &[group], 3.0),
        ("pmxcfs_group_silent_seconds", &[group], 12.345),
        ("pmxcfs_group_queued_messages", &[group], 4.0),
        ("pmxcfs_group_pending_requests", &[group], 3.0),
        ("pmxcfs_group_held_requests", &[group], 2.0),
        ("pmxcfs_group_unsent_messages", &[group], 1.0),
        ("pmxcfs_group_flow_control", &[group], 1.0),
        ("pmxcfs_group_age_seconds", &[group], 0.25),
        (
            "pmxcfs_group_waiting_for",
            &[group, ("node", odd), ("node_id", "2"), ("pid", "200")],
            1.0,
        ),
    ] {
        check.equal(name, page.find(name, labels), Some(value));
    }
}

#[test]
fn json_is_handed_on_as_it_is() {
    let mut report = a_synchronising_member().to_string();
    report.push('\n');
    let told = told(report.as_bytes(), &["status", "--json"]);
    assert_eq!(
        told.expect(DEGRADED),
        report,
        "what this program does not know included"
    );
}

#[test]
fn what_is_no_report_is_not_taken_for_a_healthy_daemon() {
    for answer in [
        &b""[..],
        b"{}\n",
        b"nonsense",
        b"{\"error\":\"unknown request 'report'\"}\n",
        b"{\"version\":",
    ] {
        for arguments in [&["status"][..], &["status", "--json"], &["metrics"]] {
            let answer = told(answer, arguments);
            assert_eq!(answer.status, FAILED);
            assert!(answer.complaint().contains("is not understood"));
        }
    }
}
