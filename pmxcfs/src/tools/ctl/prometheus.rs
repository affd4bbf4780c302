//! A report in the text format of Prometheus.
//!
//! Names begin with `pmxcfs_`, units are seconds and bytes, counters since the start of the daemon end with `_total`. The
//! buckets of the duration histograms count what took *less* than their limit, in whole nanoseconds.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::health::report::{Cluster, Group, GroupMode, Mode, Report, Requests};

/// Renders a report.
pub(super) fn render(report: &Report) -> String {
    let mut page = Page::default();
    show_daemon(report, &mut page);
    if let Some(cluster) = &report.cluster {
        show_cluster(cluster, &mut page);
        show_groups(&cluster.groups, &mut page);
    }
    show_numbers(report, &mut page);
    show_requests("fuse", "the kernel", &report.fuse, &mut page);
    show_requests("ipc", "IPC clients", &report.ipc, &mut page);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a family; its name without the prefix of all. Counters are known by their names.
    fn family(&mut self, name: &str, help: &str) {
        let kind = match name.rsplit_once('_') {
            Some((_, "total")) => "counter",
            _ => "gauge",
        };
        self.family_of(kind, name, help);
    }

    fn family_of(&mut self, kind: &str, name: &str, help: &str) {
        writeln!(
            self.text,
            "# HELP pmxcfs_{name} {help}\n# TYPE pmxcfs_{name} {kind}"
        )
        .expect("a string takes everything");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        writeln!(self.text, "pmxcfs_{name}{labels} {value}").expect("a string takes everything");
    }

    /// Families of one sample each.
    fn singles(&mut self, rows: &[(&str, &str, &dyn Display)]) {
        for (name, help, value) in rows {
            self.family(name, help);
            self.sample(name, &[], value);
        }
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

fn nanos(number: u64) -> String {
    secs(number, 1_000_000_000)
}

fn show_daemon(report: &Report, page: &mut Page) {
    let mode = match report.mode {
        Mode::Local => "local",
        Mode::Cluster => "cluster",
    };
    let (version, node) = (&report.version, &report.node_name);
    page.family("info", "The daemon; always 1.");
    page.sample(
        "info",
        &[("version", version), ("node", node), ("mode", mode)],
        1,
    );
    let mut problems = BTreeMap::new();
    for problem in &report.problems {
        *problems.entry(problem.code.as_str()).or_insert(0) += 1;
    }
    page.family("problems", "What is wrong, by its code.");
    for (code, count) in problems {
        page.sample("problems", &[("code", code)], count);
    }
}

fn show_cluster(cluster: &Cluster, page: &mut Page) {
    page.singles(&[(
        "config_version",
        "Version of corosync's configuration.",
        &cluster.config_version,
    )]);
    page.family(
        "node_online",
        "Whether a node's daemon is in the status group.",
    );
    for node in &cluster.nodes {
        let id = node.id.to_string();
        let labels = [("node", node.name.as_str()), ("node_id", &id)];
        page.sample("node_online", &labels, flag(node.is_online));
    }
    page.family(
        "service_running",
        "Whether a connection to corosync does its work.",
    );
    for service in &cluster.services {
        let labels = [("service", service.name.as_str())];
        page.sample("service_running", &labels, flag(service.is_running));
    }
}

/// Name, help and value of a number of a group.
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
            let waiting = group.waiting.as_ref();
            millis(waiting.map_or(0, |waiting| waiting.silent_ms))
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

fn show_groups(groups: &[Group], page: &mut Page) {
    page.family("group_mode", "1 for what this node is doing in the group.");
    for group in groups {
        for (mode, name) in MODES {
            let labels = [("group", group.name.as_str()), ("mode", name)];
            page.sample("group_mode", &labels, flag(group.mode == mode));
        }
    }
    for (name, help, number) in GROUP_NUMBERS {
        let name = format!("group_{name}");
        page.family(&name, help);
        for group in groups {
            page.sample(&name, &[("group", &group.name)], number(group));
        }
    }
    page.family(
        "group_waiting_for",
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
            page.sample("group_waiting_for", &labels, 1);
        }
    }
}

/// Everything that is one number of the daemon.
fn show_numbers(report: &Report, page: &mut Page) {
    let (tree, store, process) = (&report.tree, &report.store, &report.process);
    page.singles(&[
        (
            "healthy",
            "Whether nothing is wrong.",
            &flag(report.problems.is_empty()),
        ),
        (
            "start_time_seconds",
            "Wall clock at the start.",
            &report.started_secs,
        ),
        (
            "uptime_seconds",
            "Time since the start.",
            &millis(report.uptime_ms),
        ),
        (
            "quorate",
            "Whether this node has quorum.",
            &flag(report.is_quorate),
        ),
        ("tree_version", "Version of the tree.", &tree.version),
        ("tree_entries", "Files and directories.", &tree.entry_count),
        (
            "tree_used_bytes",
            "Size of all files, in blocks.",
            &tree.used_bytes,
        ),
        (
            "store_failed",
            "Whether the database cannot be written.",
            &flag(store.is_failed),
        ),
        (
            "store_busy_attempts",
            "Times in a row that another process held the database.",
            &store.busy_count,
        ),
        (
            "store_last_commit_timestamp_seconds",
            "Wall clock of the last commit.",
            &store.last_commit_secs,
        ),
        (
            "store_last_commit_duration_seconds",
            "Duration of the last commit.",
            &secs(store.last_commit_us, 1_000_000),
        ),
        (
            "store_queued_operations",
            "Operations that are not in the database yet.",
            &store.queued_operation_count,
        ),
        (
            "store_queued_entries",
            "Entries changed since the last commit began.",
            &store.queued_entry_count,
        ),
        (
            "store_waiters",
            "Operations whose caller waits for a commit.",
            &store.waiter_count,
        ),
        (
            "store_journal_bytes",
            "Bytes in the crash journal.",
            &store.journal_size_bytes,
        ),
        (
            "store_journal_allocated_bytes",
            "Bytes of the files of the crash journal.",
            &store.journal_allocated_bytes,
        ),
        (
            "store_log_bytes",
            "Bytes in SQLite's log.",
            &store.log_size_bytes,
        ),
        (
            "store_commits_total",
            "Transactions committed.",
            &store.commit_count,
        ),
        (
            "store_failed_commits_total",
            "Commits that failed.",
            &store.failed_commit_count,
        ),
        (
            "store_rows_total",
            "Rows written or deleted.",
            &store.row_count,
        ),
        (
            "store_content_bytes_total",
            "Bytes of content in those rows.",
            &store.content_bytes,
        ),
        (
            "store_journaled_bytes_total",
            "Bytes written to the crash journal.",
            &store.journaled_bytes,
        ),
        (
            "store_checkpoints_total",
            "Checkpoints of SQLite's log.",
            &store.checkpoint_count,
        ),
        (
            "store_foreign_changes_total",
            "Times that another program had changed the database.",
            &store.foreign_change_count,
        ),
        (
            "rrd_queued_values",
            "Values waiting for RRD.",
            &report.rrd.queued_count,
        ),
        ("resident_bytes", "Memory in RAM.", &process.resident_bytes),
        (
            "disk_written_bytes_total",
            "Bytes that went to disks.",
            &process.disk_written_bytes,
        ),
        (
            "cpu_seconds_total",
            "Processor time.",
            &millis(process.cpu_ms),
        ),
        ("threads", "Threads.", &process.thread_count),
        (
            "descriptors",
            "Open descriptors.",
            &process.descriptor_count,
        ),
    ]);
    let rrd = &report.rrd;
    page.family(
        "rrd_values_total",
        "Values that have left the queue, by what became of them.",
    );
    for (outcome, count) in [
        ("rrdcached", rrd.rrdcached_count),
        ("direct", rrd.direct_count),
        ("dropped", rrd.dropped_count),
        ("lost", rrd.lost_count),
    ] {
        page.sample("rrd_values_total", &[("outcome", outcome)], count);
    }
}

fn show_requests(kind: &str, who: &str, requests: &[Requests], page: &mut Page) {
    let name = format!("{kind}_requests_in_flight");
    page.family(&name, &format!("Requests of {who} without an answer."));
    for row in requests {
        page.sample(&name, &[("operation", &row.operation)], row.in_flight);
    }
    let name = format!("{kind}_errors_total");
    page.family(&name, &format!("Refused requests of {who}."));
    for row in requests {
        for (errno, count) in &row.errors {
            let labels = [("operation", row.operation.as_str()), ("errno", errno)];
            page.sample(&name, &labels, count);
        }
    }
    let name = format!("{kind}_request_duration_seconds");
    let help = format!("Durations of answered requests of {who}.");
    page.family_of("histogram", &name, &help);
    for row in requests {
        let operation = ("operation", row.operation.as_str());
        let bucket = format!("{name}_bucket");
        for below in &row.latency.below {
            let limit = nanos(below.ns);
            page.sample(&bucket, &[operation, ("le", &limit)], below.count);
        }
        page.sample(&bucket, &[operation, ("le", "+Inf")], row.count);
        let sum = nanos(row.latency.sum_ns);
        page.sample(&format!("{name}_sum"), &[operation], sum);
        page.sample(&format!("{name}_count"), &[operation], row.count);
    }
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
