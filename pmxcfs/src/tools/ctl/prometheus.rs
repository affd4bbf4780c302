//! A report in the text format of Prometheus.
//!
//! Names begin with `pmxcfs_`, units are seconds and bytes, counters since the start of the daemon end with `_total`. The
//! buckets of the duration histograms count what took *less* than their limit, in whole nanoseconds.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use pmxcfs_api_types::figures::Metric;
use pmxcfs_dfsm::core::Mode;
use pmxcfs_memdb::store::{ScrubStats, StoreStats};
use pmxcfs_rrd::RrdStats;
use serde::Serialize;
use serde_json::{Number, Value, json};
use strum::VariantNames as _;

use crate::health::report::{
    Cluster, Group, History, Node, Open, Process, Report, Requests, Service, Tree, Waiting,
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
    page.part(StoreStats::METRICS, &report.store);
    page.part(ScrubStats::METRICS, &report.store.scrub);
    page.part(Process::METRICS, &report.process);
    show_rrd(&report.rrd, &mut page);
    if let Some(history) = &report.history {
        page.part(History::METRICS, history);
    }
    show_requests("fuse", "the kernel", &report.fuse, &mut page);
    show_requests("ipc", "IPC clients", &report.ipc, &mut page);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds a family of samples, which are labels and values; its name without the prefix of all. Counters are known by their
    /// names.
    fn family<L: Display, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        self.head(kind, name, help);
        for (labels, value) in samples {
            self.line(format_args!("pmxcfs_{name}{labels} {value}"));
        }
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        let help = help.trim();
        self.line(format_args!("# HELP pmxcfs_{name} {help}"));
        self.line(format_args!("# TYPE pmxcfs_{name} {kind}"));
    }

    fn line(&mut self, text: impl Display) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    /// The metrics of the one part of its sort.
    fn part(&mut self, metrics: &[Metric], part: &impl Serialize) {
        self.parts(metrics, std::iter::once((String::new(), part)));
    }

    /// The metrics of several parts, which differ by their labels.
    fn parts<P: Serialize>(
        &mut self,
        metrics: &[Metric],
        parts: impl Iterator<Item = (String, P)>,
    ) {
        let parts: Vec<_> = parts.map(|(labels, part)| (labels, json!(part))).collect();
        for metric in metrics {
            let digits = match metric.field.rsplit_once('_') {
                Some((_, "ms")) => 3,
                Some((_, "us")) => 6,
                _ => 0,
            };
            let samples = parts.iter().map(|(labels, part)| {
                let value = number(&part[metric.field]);
                (labels, decimal(value, digits))
            });
            self.family(metric.name, metric.help, samples);
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

fn number(field: &Value) -> i128 {
    match field {
        Value::Bool(flag) => (*flag).into(),
        Value::Array(list) => list.len() as i128,
        field => field.as_number().and_then(Number::as_i128).unwrap_or(0),
    }
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
    let (version, node) = (&report.version, &report.node_name);
    let info = labels(&[("version", version), ("node", node), ("mode", &report.mode)]);
    page.family("info", "The daemon; always 1.", [(info, 1)]);
    let is_healthy = u8::from(report.problems.is_empty());
    page.family("healthy", "Whether nothing is wrong.", [("", is_healthy)]);
    let mut problems = BTreeMap::new();
    for problem in &report.problems {
        *problems
            .entry(labels(&[("code", &problem.code)]))
            .or_insert(0) += 1;
    }
    page.family("problems", "What is wrong, by its code.", problems);
    page.part(Report::METRICS, report);
}

fn show_cluster(cluster: &Cluster, page: &mut Page) {
    page.part(Cluster::METRICS, cluster);
    let nodes = cluster.nodes.iter().map(|node| {
        let labels = labels(&[("node", &node.name), ("node_id", &node.id)]);
        (labels, node)
    });
    page.parts(Node::METRICS, nodes);
    let services = cluster.services.iter();
    let services = services.map(|service| (labels(&[("service", &service.name)]), service));
    page.parts(Service::METRICS, services);
}

fn show_groups(groups: &[Group], page: &mut Page) {
    let named = groups.iter().map(|group| {
        let name = labels(&[("group", &group.name)]);
        (name, group)
    });
    page.parts(Group::METRICS, named.clone());
    let none = Waiting::default();
    let waiting = named.map(|(name, group)| {
        let waiting = group.waiting.as_ref();
        (name, waiting.unwrap_or(&none))
    });
    page.parts(Waiting::METRICS, waiting);
    let modes = groups.iter().flat_map(|group| {
        Mode::VARIANTS.iter().map(|mode| {
            let labels = labels(&[("group", &group.name), ("mode", mode)]);
            (labels, u8::from(group.mode == *mode))
        })
    });
    page.family(
        "group_mode",
        "1 for what this node is doing in the group.",
        modes,
    );
    let waiting = groups.iter().flat_map(|group| {
        let members = group.waiting.iter().flat_map(|waiting| &waiting.members);
        members.map(|member| {
            let node = member.node_name.as_deref().unwrap_or_default();
            let labels = labels(&[
                ("group", &group.name),
                ("node", &node),
                ("node_id", &member.node_id),
                ("pid", &member.pid),
            ]);
            (labels, 1)
        })
    });
    page.family(
        "group_waiting_for",
        "1 for each member that a synchronisation waits for.",
        waiting,
    );
}

fn show_rrd(rrd: &RrdStats, page: &mut Page) {
    page.part(RrdStats::METRICS, rrd);
    let outcomes = [
        ("rrdcached", rrd.rrdcached_count),
        ("direct", rrd.direct_count),
        ("dropped", rrd.dropped_count),
        ("lost", rrd.lost_count),
    ];
    page.family(
        "rrd_values_total",
        "Values that have left the queue, by what became of them.",
        outcomes.map(|(outcome, count)| (labels(&[("outcome", &outcome)]), count)),
    );
}

fn show_requests(kind: &str, who: &str, requests: &[Requests], page: &mut Page) {
    let operation = |row: &Requests| labels(&[("operation", &row.operation)]);
    page.family(
        &format!("{kind}_requests_in_flight"),
        &format!("Requests of {who} without an answer."),
        requests.iter().map(|row| (operation(row), row.in_flight)),
    );
    let errors = requests.iter().flat_map(|row| {
        row.errors.iter().map(|(errno, count)| {
            let labels = labels(&[("operation", &row.operation), ("errno", errno)]);
            (labels, count)
        })
    });
    page.family(
        &format!("{kind}_errors_total"),
        &format!("Refused requests of {who}."),
        errors,
    );
    let name = format!("{kind}_request_duration_seconds");
    let help = format!("Durations of answered requests of {who}.");
    page.head("histogram", &name, &help);
    for row in requests {
        let limits = row.latency.below.iter();
        let limits = limits.map(|below| (nanos(below.ns), below.count));
        for (limit, count) in limits.chain([("+Inf".to_owned(), row.count)]) {
            let labels = labels(&[("operation", &row.operation), ("le", &limit)]);
            page.line(format_args!("pmxcfs_{name}_bucket{labels} {count}"));
        }
        let (labels, sum) = (operation(row), nanos(row.latency.sum_ns));
        page.line(format_args!("pmxcfs_{name}_sum{labels} {sum}"));
        page.line(format_args!("pmxcfs_{name}_count{labels} {}", row.count));
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
