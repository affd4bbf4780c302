//! A report in the text format of Prometheus.
//!
//! Names begin with `pmxcfs_`, units are seconds and bytes, counters since the start of the daemon end with `_total`. The
//! buckets of the duration histograms count what took *less* than their limit, in whole nanoseconds.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::slice;

use crate::health::report::{
    Cluster, Group, GroupMode, Metric, Mode, Node, Open, Process, Report, Requests, Rrd, Service,
    Store, Tree,
};

/// Renders a report.
pub(super) fn render(report: &Report) -> String {
    let mut page = Page::default();
    show_daemon(report, &mut page);
    if let Some(cluster) = &report.cluster {
        show_cluster(cluster, &mut page);
        show_groups(&cluster.groups, &mut page);
    }
    page.part(Tree::METRICS, &report.tree);
    page.part(Open::METRICS, &report.open);
    page.part(Store::METRICS, &report.store);
    page.part(Process::METRICS, &report.process);
    show_rrd(&report.rrd, &mut page);
    show_requests("fuse", "the kernel", &report.fuse, &mut page);
    show_requests("ipc", "IPC clients", &report.ipc, &mut page);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family; its name without the prefix of all. Counters are known by their names.
    fn family(&mut self, name: &str, help: &str) {
        let kind = match name.ends_with("_total") {
            true => "counter",
            false => "gauge",
        };
        self.family_of(kind, name, help);
    }

    fn family_of(&mut self, kind: &str, name: &str, help: &str) {
        let help = help.trim();
        self.line(format_args!("# HELP pmxcfs_{name} {help}"));
        self.line(format_args!("# TYPE pmxcfs_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("pmxcfs_{name}{labels} {value}"));
    }

    fn line(&mut self, text: impl Display) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    /// The metrics of the one part of its sort.
    fn part<P>(&mut self, metrics: &[Metric<P>], part: &P) {
        self.parts(metrics, slice::from_ref(part), |_| String::new());
    }

    /// The metrics of several parts, which differ by their labels.
    fn parts<P>(&mut self, metrics: &[Metric<P>], parts: &[P], labels: impl Fn(&P) -> String) {
        for metric in metrics {
            self.family(metric.name, metric.help);
            let digits = match metric.field.rsplit_once('_') {
                Some((_, "ms")) => 3,
                Some((_, "us")) => 6,
                _ => 0,
            };
            for part in parts {
                let value = decimal((metric.of)(part), digits);
                self.sample(metric.name, &labels(part), value);
            }
        }
    }
}

/// Labels with their values, in the braces that they stand in.
fn labels(labels: &[(&str, &dyn Display)]) -> String {
    let escaped = |value: &dyn Display| {
        let value = value.to_string();
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let labels = labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    format!("{{{}}}", labels.join(","))
}

/// A number of which so many digits stand behind the point.
fn decimal(number: i128, digits: usize) -> String {
    let unit = 10_i128.pow(u32::try_from(digits).unwrap_or(0));
    let text = format!("{}.{:0digits$}", number / unit, number % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn nanos(number: u64) -> String {
    decimal(number.into(), 9)
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
        &labels(&[("version", version), ("node", node), ("mode", &mode)]),
        1,
    );
    page.family("healthy", "Whether nothing is wrong.");
    page.sample("healthy", "", u8::from(report.problems.is_empty()));
    let mut problems = BTreeMap::new();
    for problem in &report.problems {
        *problems.entry(&problem.code).or_insert(0) += 1;
    }
    page.family("problems", "What is wrong, by its code.");
    for (code, count) in problems {
        page.sample("problems", &labels(&[("code", code)]), count);
    }
    page.part(Report::METRICS, report);
}

fn show_cluster(cluster: &Cluster, page: &mut Page) {
    page.part(Cluster::METRICS, cluster);
    page.parts(Node::METRICS, &cluster.nodes, |node| {
        labels(&[("node", &node.name), ("node_id", &node.id)])
    });
    page.parts(Service::METRICS, &cluster.services, |service| {
        labels(&[("service", &service.name)])
    });
}

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
    page.parts(Group::METRICS, groups, |group| {
        labels(&[("group", &group.name)])
    });
    page.family("group_mode", "1 for what this node is doing in the group.");
    for group in groups {
        for (mode, name) in MODES {
            let labels = labels(&[("group", &group.name), ("mode", &name)]);
            page.sample("group_mode", &labels, u8::from(group.mode == mode));
        }
    }
    page.family("group_members", "Members.");
    for group in groups {
        let labels = labels(&[("group", &group.name)]);
        page.sample("group_members", &labels, group.members.len());
    }
    page.family(
        "group_silent_seconds",
        "Time since something came that a synchronisation waits for; 0 while there is none.",
    );
    for group in groups {
        let silent_ms = group
            .waiting
            .as_ref()
            .map_or(0, |waiting| waiting.silent_ms);
        let labels = labels(&[("group", &group.name)]);
        page.sample(
            "group_silent_seconds",
            &labels,
            decimal(silent_ms.into(), 3),
        );
    }
    page.family(
        "group_waiting_for",
        "1 for each member that a synchronisation waits for.",
    );
    for group in groups {
        for member in group.waiting.iter().flat_map(|waiting| &waiting.members) {
            let labels = labels(&[
                ("group", &group.name),
                ("node", &member.node_name.as_deref().unwrap_or_default()),
                ("node_id", &member.node_id),
                ("pid", &member.pid),
            ]);
            page.sample("group_waiting_for", &labels, 1);
        }
    }
}

fn show_rrd(rrd: &Rrd, page: &mut Page) {
    page.part(Rrd::METRICS, rrd);
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
        page.sample("rrd_values_total", &labels(&[("outcome", &outcome)]), count);
    }
}

fn show_requests(kind: &str, who: &str, requests: &[Requests], page: &mut Page) {
    page.family(
        &format!("{kind}_requests_in_flight"),
        &format!("Requests of {who} without an answer."),
    );
    for row in requests {
        let labels = labels(&[("operation", &row.operation)]);
        page.sample(
            &format!("{kind}_requests_in_flight"),
            &labels,
            row.in_flight,
        );
    }
    let name = format!("{kind}_errors_total");
    page.family(&name, &format!("Refused requests of {who}."));
    for row in requests {
        for (errno, count) in &row.errors {
            let labels = labels(&[("operation", &row.operation), ("errno", errno)]);
            page.sample(&name, &labels, count);
        }
    }
    let name = format!("{kind}_request_duration_seconds");
    let help = format!("Durations of answered requests of {who}.");
    page.family_of("histogram", &name, &help);
    for row in requests {
        let operation: (&str, &dyn Display) = ("operation", &row.operation);
        let limits = row.latency.below.iter();
        let limits = limits.map(|below| (nanos(below.ns), below.count));
        for (limit, count) in limits.chain([("+Inf".to_owned(), row.count)]) {
            let labels = labels(&[operation, ("le", &limit)]);
            page.sample(&format!("{name}_bucket"), &labels, count);
        }
        let labels = labels(&[operation]);
        page.sample(&format!("{name}_sum"), &labels, nanos(row.latency.sum_ns));
        page.sample(&format!("{name}_count"), &labels, row.count);
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
        assert_eq!(decimal(10, 3), "0.01");
        assert_eq!(decimal(100_000, 3), "100");
        assert_eq!(decimal(100, 0), "100");
        assert_eq!(decimal(-1, 0), "-1");
    }
}
