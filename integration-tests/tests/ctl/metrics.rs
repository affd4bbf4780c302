//! What monitoring gets.

use std::fs;

use integration_tests::Host;

use crate::exposition::Page;
use crate::{HEALTHY, ask, number, report, report_when};

fn page(host: &Host) -> Page {
    Page::read(&ask(host, ["metrics"]).expect(HEALTHY))
}

#[test]
fn metrics_are_what_the_report_says() {
    let host = Host::new();
    let daemon = host.start();
    for number in 0..9 {
        fs::write(host.path(format!("f{number}")), "content").unwrap();
    }
    fs::remove_file(host.path("missing")).unwrap_err();
    host.ipc().config("missing").unwrap_err();
    report_when(&host, "the store to be idle", |report| {
        report["store"]["queued_operation_count"] == 0
    });
    let report = report(&host);
    let page = page(&host);
    for (name, field) in [
        ("pmxcfs_tree_version", "/tree/version"),
        ("pmxcfs_tree_entries", "/tree/entry_count"),
        ("pmxcfs_tree_used_bytes", "/tree/used_bytes"),
        ("pmxcfs_store_commits_total", "/store/commit_count"),
        ("pmxcfs_store_content_bytes_total", "/store/content_bytes"),
        (
            "pmxcfs_store_journaled_bytes_total",
            "/store/journaled_bytes",
        ),
        (
            "pmxcfs_store_last_commit_timestamp_seconds",
            "/store/last_commit_secs",
        ),
    ] {
        let expected = number(report.pointer(field).unwrap());
        assert!(expected > 0, "{field}");
        assert_eq!(page.value(name, &[]), expected as f64, "{name}");
    }
    for (name, value) in [
        ("pmxcfs_healthy", 1.0),
        ("pmxcfs_quorate", 1.0),
        ("pmxcfs_store_failed", 0.0),
        ("pmxcfs_store_queued_operations", 0.0),
    ] {
        assert_eq!(page.value(name, &[]), value, "{name}");
    }
    let version = report["version"].as_str().unwrap();
    let info = [("version", version), ("node", "node1"), ("mode", "local")];
    assert_eq!(page.value("pmxcfs_info", &info), 1.0);
    let durations = "pmxcfs_fuse_request_duration_seconds";
    let create = ("operation", "create");
    assert_eq!(page.value(&format!("{durations}_count"), &[create]), 9.0);
    assert!(page.value(&format!("{durations}_sum"), &[create]) > 0.0);
    let refused = [("operation", "get-config"), ("errno", "ENOENT")];
    assert_eq!(page.value("pmxcfs_ipc_errors_total", &refused), 1.0);
    let missing = [("operation", "lookup"), ("errno", "ENOENT")];
    assert!(page.value("pmxcfs_fuse_errors_total", &missing) >= 1.0);
    daemon.stop();
}

#[test]
fn counters_only_grow() {
    let host = Host::new();
    let daemon = host.start();
    fs::write(host.path("f"), "x").unwrap();
    host.ipc().version().unwrap();
    let mut former = page(&host);
    for round in 0..5 {
        fs::write(host.path("f"), round.to_string()).unwrap();
        host.ipc().version().unwrap();
        let present = page(&host);
        for (name, family) in former.0.iter().filter(|(_, family)| family.kind != "gauge") {
            for sample in &family.samples {
                let labels: Vec<(&str, &str)> = sample
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let later = present.find(&sample.name, &labels).unwrap();
                assert!(later >= sample.value, "{name}: {sample:?}, then {later}");
            }
        }
        former = present;
    }
    let requests = "pmxcfs_ipc_request_duration_seconds_count";
    assert_eq!(former.value(requests, &[("operation", "version")]), 6.0);
    daemon.stop();
}
