//! A report in the text format of Prometheus.
//!
//! Names begin with `pmxcfs_`, units are seconds and bytes, counters since the start of the daemon end with `_total`. The
//! buckets of the duration histograms count what took *less* than their limit, in whole nanoseconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::health::report::{
    Cluster, Group, GroupMode, Mode, Process, Report, Requests, Rrd, Store, Tree,
};

/// Renders a report.
pub(super) fn render(report: &Report) -> String {
    let mut page = Page::default();
    daemon(report, &mut page);
    if let Some(cluster) = &report.cluster {
        nodes(cluster, &mut page);
        groups(&cluster.groups, &mut page);
    }
    tree(&report.tree, &mut page);
    store(&report.store, &mut page);
    rrd(&report.rrd, &mut page);
    process(&report.process, &mut page);
    requests("fuse", "the kernel", &report.fuse, &mut page);
    requests("ipc", "IPC clients", &report.ipc, &mut page);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("a string takes everything");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            write!(self.text, "{{{}}}", labels.join(",")).expect("a string takes everything");
        }
        writeln!(self.text, " {value}").expect("a string takes everything");
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.single(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.single(name, "counter", help, value);
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(value: bool) -> u8 {
    value.into()
}

/// An integer of some decimal fraction of a second, as seconds.
fn secs(number: u64, per_second: u64) -> String {
    let digits = per_second.ilog10() as usize;
    let (whole, rest) = (number / per_second, number % per_second);
    let text = format!("{whole}.{rest:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn millis(number: u64) -> String {
    secs(number, 1_000)
}

fn micros(number: u64) -> String {
    secs(number, 1_000_000)
}

fn nanos(number: u64) -> String {
    secs(number, 1_000_000_000)
}

fn daemon(report: &Report, page: &mut Page) {
    let mode = match report.mode {
        Mode::Local => "local",
        Mode::Cluster => "cluster",
    };
    page.family("pmxcfs_info", "gauge", "The daemon; always 1.");
    page.sample(
        "pmxcfs_info",
        &[
            ("version", &report.version),
            ("node", &report.node_name),
            ("mode", mode),
        ],
        1,
    );
    page.gauge(
        "pmxcfs_healthy",
        "Whether nothing is wrong.",
        flag(report.problems.is_empty()),
    );
    let mut problems = BTreeMap::new();
    for problem in &report.problems {
        *problems.entry(problem.code.as_str()).or_insert(0) += 1;
    }
    page.family("pmxcfs_problems", "gauge", "What is wrong, by its code.");
    for (code, count) in problems {
        page.sample("pmxcfs_problems", &[("code", code)], count);
    }
    page.gauge(
        "pmxcfs_start_time_seconds",
        "Wall clock at the start.",
        report.started_secs,
    );
    page.gauge(
        "pmxcfs_uptime_seconds",
        "Time since the start.",
        millis(report.uptime_ms),
    );
    page.gauge(
        "pmxcfs_quorate",
        "Whether this node has quorum.",
        flag(report.is_quorate),
    );
}

fn nodes(cluster: &Cluster, page: &mut Page) {
    page.gauge(
        "pmxcfs_config_version",
        "Version of corosync's configuration.",
        cluster.config_version,
    );
    page.family(
        "pmxcfs_node_online",
        "gauge",
        "Whether a node's daemon is in the status group.",
    );
    for node in &cluster.nodes {
        let id = node.id.to_string();
        let labels = [("node", node.name.as_str()), ("node_id", &id)];
        page.sample("pmxcfs_node_online", &labels, flag(node.is_online));
    }
    page.family(
        "pmxcfs_service_running",
        "gauge",
        "Whether a connection to corosync does its work.",
    );
    for service in &cluster.services {
        page.sample(
            "pmxcfs_service_running",
            &[("service", &service.name)],
            flag(service.is_running),
        );
    }
}

/// Name, kind and help of a number of a group, and where it is.
type GroupNumber = (&'static str, &'static str, fn(&Group) -> String);

const GROUP_NUMBERS: [GroupNumber; 9] = [
    ("members", "Members.", |group| {
        group.members.len().to_string()
    }),
    (
        "connected",
        "Whether there is a connection to corosync.",
        |group| flag(group.is_connected).to_string(),
    ),
    (
        "silent_seconds",
        "Time since something came that a synchronisation waits for; 0 while there is none.",
        |group| {
            millis(
                group
                    .waiting
                    .as_ref()
                    .map_or(0, |waiting| waiting.silent_ms),
            )
        },
    ),
    (
        "queued_messages",
        "Messages that wait for the end of a synchronisation.",
        |group| group.queued_count.to_string(),
    ),
    ("pending_requests", "Requests without an answer.", |group| {
        group.pending_count.to_string()
    }),
    (
        "held_requests",
        "Requests that wait until this node is synced.",
        |group| group.held_count.to_string(),
    ),
    (
        "unsent_messages",
        "Messages that corosync has not taken yet.",
        |group| group.unsent_count.to_string(),
    ),
    (
        "flow_control",
        "Whether corosync asks to send no more for now.",
        |group| flag(group.is_blocked).to_string(),
    ),
    (
        "age_seconds",
        "How long ago the numbers of this group were true.",
        |group| millis(group.age_ms),
    ),
];

const MODES: [(GroupMode, &str); 7] = [
    (GroupMode::Start, "start"),
    (GroupMode::StartSync, "start-sync"),
    (GroupMode::Synced, "synced"),
    (GroupMode::Update, "update"),
    (GroupMode::Leave, "leave"),
    (GroupMode::VersionError, "version-error"),
    (GroupMode::Error, "error"),
];

fn groups(groups: &[Group], page: &mut Page) {
    page.family(
        "pmxcfs_group_mode",
        "gauge",
        "1 for what this node is doing in the group.",
    );
    for group in groups {
        for (mode, name) in MODES {
            page.sample(
                "pmxcfs_group_mode",
                &[("group", &group.name), ("mode", name)],
                flag(group.mode == mode),
            );
        }
    }
    for (name, help, number) in GROUP_NUMBERS {
        let name = format!("pmxcfs_group_{name}");
        page.family(&name, "gauge", help);
        for group in groups {
            page.sample(&name, &[("group", &group.name)], number(group));
        }
    }
    page.family(
        "pmxcfs_group_waiting_for",
        "gauge",
        "1 for each member that a synchronisation waits for.",
    );
    for group in groups {
        for member in group.waiting.iter().flat_map(|waiting| &waiting.members) {
            let (id, pid) = (member.node_id.to_string(), member.pid.to_string());
            let labels = [
                ("group", group.name.as_str()),
                ("node", member.node_name.as_deref().unwrap_or_default()),
                ("node_id", &id),
                ("pid", &pid),
            ];
            page.sample("pmxcfs_group_waiting_for", &labels, 1);
        }
    }
}

fn tree(tree: &Tree, page: &mut Page) {
    page.gauge("pmxcfs_tree_version", "Version of the tree.", tree.version);
    page.gauge(
        "pmxcfs_tree_entries",
        "Files and directories.",
        tree.entry_count,
    );
    page.gauge(
        "pmxcfs_tree_used_bytes",
        "Size of all files, in blocks.",
        tree.used_bytes,
    );
}

fn store(store: &Store, page: &mut Page) {
    page.gauge(
        "pmxcfs_store_failed",
        "Whether the database cannot be written.",
        flag(store.is_failed),
    );
    page.gauge(
        "pmxcfs_store_busy_attempts",
        "Times in a row that another process held the database.",
        store.busy_count,
    );
    page.gauge(
        "pmxcfs_store_last_commit_timestamp_seconds",
        "Wall clock of the last commit.",
        store.last_commit_secs,
    );
    page.gauge(
        "pmxcfs_store_last_commit_duration_seconds",
        "Duration of the last commit.",
        micros(store.last_commit_us),
    );
    page.gauge(
        "pmxcfs_store_queued_operations",
        "Operations that are not in the database yet.",
        store.queued_operation_count,
    );
    page.gauge(
        "pmxcfs_store_queued_entries",
        "Entries changed since the last commit began.",
        store.queued_entry_count,
    );
    page.gauge(
        "pmxcfs_store_waiters",
        "Operations whose caller waits for a commit.",
        store.waiter_count,
    );
    page.gauge(
        "pmxcfs_store_journal_bytes",
        "Bytes in the crash journal.",
        store.journal_size_bytes,
    );
    page.gauge(
        "pmxcfs_store_journal_allocated_bytes",
        "Bytes of the files of the crash journal.",
        store.journal_allocated_bytes,
    );
    page.gauge(
        "pmxcfs_store_log_bytes",
        "Bytes in SQLite's log.",
        store.log_size_bytes,
    );
    page.counter(
        "pmxcfs_store_commits_total",
        "Transactions committed.",
        store.commit_count,
    );
    page.counter(
        "pmxcfs_store_failed_commits_total",
        "Commits tried in vain.",
        store.failed_commit_count,
    );
    page.counter(
        "pmxcfs_store_rows_total",
        "Rows written or deleted.",
        store.row_count,
    );
    page.counter(
        "pmxcfs_store_content_bytes_total",
        "Bytes of content in those rows.",
        store.content_bytes,
    );
    page.counter(
        "pmxcfs_store_journaled_bytes_total",
        "Bytes written to the crash journal.",
        store.journaled_bytes,
    );
    page.counter(
        "pmxcfs_store_checkpoints_total",
        "Checkpoints of SQLite's log.",
        store.checkpoint_count,
    );
}

fn rrd(rrd: &Rrd, page: &mut Page) {
    page.gauge(
        "pmxcfs_rrd_queued_values",
        "Values waiting for RRD.",
        rrd.queued_count,
    );
    page.family(
        "pmxcfs_rrd_values_total",
        "counter",
        "Values that have left the queue, by what became of them.",
    );
    for (outcome, count) in [
        ("rrdcached", rrd.rrdcached_count),
        ("direct", rrd.direct_count),
        ("dropped", rrd.dropped_count),
        ("lost", rrd.lost_count),
    ] {
        page.sample("pmxcfs_rrd_values_total", &[("outcome", outcome)], count);
    }
}

fn process(process: &Process, page: &mut Page) {
    page.gauge(
        "pmxcfs_resident_bytes",
        "Memory in RAM.",
        process.resident_bytes,
    );
    page.counter(
        "pmxcfs_disk_written_bytes_total",
        "Bytes that went to disks.",
        process.disk_written_bytes,
    );
    page.counter(
        "pmxcfs_cpu_seconds_total",
        "Processor time.",
        millis(process.cpu_ms),
    );
    page.gauge("pmxcfs_threads", "Threads.", process.thread_count);
    page.gauge(
        "pmxcfs_descriptors",
        "Open descriptors.",
        process.descriptor_count,
    );
}

fn requests(kind: &str, who: &str, requests: &[Requests], page: &mut Page) {
    let name = format!("pmxcfs_{kind}_requests_in_flight");
    page.family(
        &name,
        "gauge",
        &format!("Requests of {who} without an answer."),
    );
    for row in requests {
        page.sample(&name, &[("operation", &row.operation)], row.in_flight);
    }
    let name = format!("pmxcfs_{kind}_errors_total");
    page.family(&name, "counter", &format!("Refused requests of {who}."));
    for row in requests {
        for (errno, count) in &row.errors {
            let labels = [("operation", row.operation.as_str()), ("errno", errno)];
            page.sample(&name, &labels, count);
        }
    }
    let name = format!("pmxcfs_{kind}_request_duration_seconds");
    page.family(
        &name,
        "histogram",
        &format!("Durations of answered requests of {who}."),
    );
    for row in requests {
        durations(&name, row, page);
    }
}

fn durations(name: &str, row: &Requests, page: &mut Page) {
    let operation = ("operation", row.operation.as_str());
    let bucket = format!("{name}_bucket");
    for below in &row.latency.below {
        let limit = nanos(below.ns);
        page.sample(&bucket, &[operation, ("le", &limit)], below.count);
    }
    page.sample(&bucket, &[operation, ("le", "+Inf")], row.count);
    page.sample(
        &format!("{name}_sum"),
        &[operation],
        nanos(row.latency.sum_ns),
    );
    page.sample(&format!("{name}_count"), &[operation], row.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (number, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (1024, "0.000001024"),
            (1_000_000_000, "1"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(nanos(number), text);
        }
        assert_eq!(millis(10), "0.01");
        assert_eq!(millis(100_000), "100");
    }
}
