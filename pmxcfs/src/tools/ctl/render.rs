//! A report as text for people.

use std::fmt::{self, Display, Write as _};

use crate::health::names;
use crate::health::report::{
    Cluster, Group, GroupMode, Latency, Mode, Paths, Process, Report, Requests, Rrd, Store, Tree,
};
use crate::tools::text::{bytes, count, nanos, printable, seconds};

/// What rates are made of: an earlier report of the same daemon, and the time since then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates<'a> {
    /// The earlier report.
    pub(super) earlier: &'a Report,
    /// Milliseconds between both.
    pub(super) elapsed_ms: u64,
}

/// Renders a report. With rates it is meant for a screen: rates are added, what never changes is left out.
pub(super) fn render(report: &Report, rates: Option<Rates<'_>>) -> String {
    let mut page = Page::default();
    head(report, &mut page);
    if let Some(cluster) = &report.cluster {
        show_cluster(cluster, &mut page);
    }
    show_tree(&report.tree, &mut page);
    show_store(&report.store, now_secs(report), &mut page);
    show_rrd(&report.rrd, &mut page);
    show_process(&report.process, &mut page);
    if rates.is_none() {
        show_paths(&report.paths, &mut page);
    }
    let rates = rates.filter(|rates| rates.earlier.pid == report.pid && rates.elapsed_ms > 0);
    let rate = |earlier: fn(&Report) -> &[Requests]| {
        rates.map(|rates| (earlier(rates.earlier), rates.elapsed_ms))
    };
    show_requests("fuse", &report.fuse, rate(|report| &report.fuse), &mut page);
    show_requests("ipc", &report.ipc, rate(|report| &report.ipc), &mut page);
    page.text
}

/// Text in two columns.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, name: &str, text: impl Display) {
        writeln!(self.text, "{name:<11}{text}").expect("a string takes everything");
    }
}

fn head(report: &Report, page: &mut Page) {
    let node = printable(&report.node_name);
    let verdict = match report.problems.len() {
        0 => "healthy".to_owned(),
        problems => format!("DEGRADED, {}", count(problems, "problem")),
    };
    page.line("pmxcfs", format_args!("{node}: {verdict}"));
    for problem in &report.problems {
        let code = printable(&problem.code);
        page.line("", format_args!("! {code}: {}", printable(&problem.text)));
    }
    let uptime = seconds(report.uptime_ms / 1000);
    let version = printable(&report.version);
    page.line(
        "process",
        format_args!("version {version}, pid {}, up {uptime}", report.pid),
    );
    let quorum = if report.is_quorate {
        "quorate"
    } else {
        "NOT QUORATE"
    };
    let mode = match report.mode {
        Mode::Local => "local",
        Mode::Cluster => "cluster",
    };
    page.line("mode", format_args!("{mode}, {quorum}"));
}

fn show_cluster(cluster: &Cluster, page: &mut Page) {
    if cluster.nodes.is_empty() {
        page.line("cluster", "corosync has not told of any nodes");
    } else {
        let name = printable(&cluster.name);
        let nodes = count(cluster.nodes.len(), "node");
        let version = cluster.config_version;
        page.line(
            "cluster",
            format_args!("{name}, {nodes}, configuration version {version}"),
        );
    }
    for node in &cluster.nodes {
        let state = if node.is_online { "online" } else { "OFFLINE" };
        let name = printable(&node.name);
        page.line("", format_args!("{name} (node {}): {state}", node.id));
    }
    for service in &cluster.services {
        let state = match (&service.error, service.is_running) {
            (_, true) => "works".to_owned(),
            (Some(error), false) => format!("FAILED: {}", printable(error)),
            (None, false) => "starting".to_owned(),
        };
        page.line("service", format_args!("{}: {state}", service.name));
    }
    for group in &cluster.groups {
        show_group(group, page);
    }
}

const fn mode_name(mode: GroupMode) -> &'static str {
    match mode {
        GroupMode::Start => "not joined",
        GroupMode::StartSync => "exchanging states",
        GroupMode::Synced => "synced",
        GroupMode::Update => "being updated",
        GroupMode::Leave => "leaving, to join again",
        GroupMode::VersionError => "left: newer protocol",
        GroupMode::Error => "left: error",
        GroupMode::Unknown => "unknown",
    }
}

fn show_group(group: &Group, page: &mut Page) {
    let members = count(group.members.len(), "member");
    let who = printable(&names(&group.members));
    let mode = mode_name(group.mode);
    page.line(
        "group",
        format_args!("{}: {mode}, {members}: {who}", printable(&group.name)),
    );
    if let Some(waiting) = &group.waiting {
        let who = printable(&names(&waiting.members));
        let since = seconds(waiting.silent_ms / 1000);
        page.line("", format_args!("WAITING for {who}, since {since}"));
    }
    let blocked = if group.is_blocked {
        ", corosync asks to wait"
    } else {
        ""
    };
    page.line(
        "",
        format_args!(
            "{}, {} of them held, {} queued, {} unsent{blocked}",
            count(group.pending_count, "pending request"),
            group.held_count,
            count(group.queued_count, "message"),
            group.unsent_count,
        ),
    );
}

fn show_tree(tree: &Tree, page: &mut Page) {
    let entries = count(tree.entry_count, "entry");
    let size = bytes(tree.used_bytes);
    page.line(
        "tree",
        format_args!("version {}, {entries}, {size}", tree.version),
    );
}

/// Wall clock of the daemon when it made the report.
fn now_secs(report: &Report) -> u64 {
    u64::from(report.started_secs) + report.uptime_ms / 1000
}

fn show_store(store: &Store, now_secs: u64, page: &mut Page) {
    let state = match (&store.failure, store.is_failed, store.busy_count) {
        (Some(failure), true, _) => format!("FAILED: {}", printable(failure)),
        (None, true, _) => "FAILED".to_owned(),
        (_, false, 0) => "works".to_owned(),
        (_, false, tries) => format!("held by another process, {}", count(tries, "attempt")),
    };
    page.line("store", state);
    let last = match store.last_commit_secs {
        0 => "none yet".to_owned(),
        secs => format!(
            "the last one {} ago, in {}",
            seconds(now_secs.saturating_sub(secs.into())),
            nanos(store.last_commit_us.saturating_mul(1000)),
        ),
    };
    page.line(
        "",
        format_args!(
            "{} ({} in vain), {last}",
            count(store.commit_count, "commit"),
            store.failed_commit_count,
        ),
    );
    page.line(
        "",
        format_args!(
            "{} queued, {} changed since the last commit began, {} wait for one",
            count(store.queued_operation_count, "operation"),
            count(store.queued_entry_count, "entry"),
            count(store.waiter_count, "caller"),
        ),
    );
    page.line(
        "",
        format_args!(
            "written: {} in {}, {} of crash journal",
            bytes(store.content_bytes),
            count(store.row_count, "row"),
            bytes(store.journaled_bytes),
        ),
    );
    page.line(
        "",
        format_args!(
            "crash journal {} (files {}), SQLite's log {}, {}",
            bytes(store.journal_size_bytes),
            bytes(store.journal_allocated_bytes),
            bytes(store.log_size_bytes),
            count(store.checkpoint_count, "checkpoint"),
        ),
    );
}

fn show_rrd(rrd: &Rrd, page: &mut Page) {
    page.line(
        "rrd",
        format_args!(
            "{} queued; {} to rrdcached, {} to files, {} dropped, {} lost",
            count(rrd.queued_count, "value"),
            rrd.rrdcached_count,
            rrd.direct_count,
            rrd.dropped_count,
            rrd.lost_count,
        ),
    );
}

fn show_process(process: &Process, page: &mut Page) {
    page.line(
        "resources",
        format_args!(
            "{} in RAM, {} written to disks, {} of processor time, {}, {}",
            bytes(process.resident_bytes),
            bytes(process.disk_written_bytes),
            nanos(process.cpu_ms.saturating_mul(1_000_000)),
            count(process.thread_count, "thread"),
            count(process.descriptor_count, "descriptor"),
        ),
    );
}

fn show_paths(paths: &Paths, page: &mut Page) {
    let rows = [
        ("mount point", &paths.mount_dir),
        ("database", &paths.database),
        ("run directory", &paths.run_dir),
        ("PID file", &paths.pid_file),
        ("corosync", &paths.corosync_conf),
        ("RRD files", &paths.rrd_dir),
        ("rrdcached", &paths.rrdcached_socket),
        ("control socket", &paths.control_socket),
        ("IPC service", &paths.ipc_service),
    ];
    let mut name = "paths";
    for (what, path) in rows {
        page.line(name, format_args!("{what:<15} {}", printable(path)));
        name = "";
    }
}

/// One line for each kind of request.
fn show_requests(
    title: &str,
    requests: &[Requests],
    earlier: Option<(&[Requests], u64)>,
    page: &mut Page,
) {
    if requests.is_empty() {
        return;
    }
    let rate = if earlier.is_some() { "per second" } else { "" };
    writeln!(
        page.text,
        "\n{title:<17}{:>11}{rate:>11}{:>10}{:>9}{:>9}{:>9}{:>9}  errors",
        "requests", "in flight", "p50", "p90", "p99", "max"
    )
    .expect("a string takes everything");
    for row in requests {
        let rate = earlier.map(|(earlier, elapsed_ms)| per_second(row, earlier, elapsed_ms));
        let line = Row {
            requests: row,
            rate: rate.unwrap_or_default(),
        };
        writeln!(page.text, "{line}").expect("a string takes everything");
    }
}

struct Row<'a> {
    requests: &'a Requests,
    rate: String,
}

impl Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requests {
            operation,
            count,
            in_flight,
            errors,
            latency:
                Latency {
                    p50_ns,
                    p90_ns,
                    p99_ns,
                    max_ns,
                    ..
                },
        } = self.requests;
        let name = printable(operation);
        let rate = &self.rate;
        write!(f, "  {name:<15}{count:>11}{rate:>11}{in_flight:>10}")?;
        for latency in [p50_ns, p90_ns, p99_ns, max_ns] {
            write!(f, "{:>9}", nanos(*latency))?;
        }
        let errors: Vec<String> = errors
            .iter()
            .map(|(errno, count)| format!("{count} {}", printable(errno)))
            .collect();
        if !errors.is_empty() {
            write!(f, "  {}", errors.join(", "))?;
        }
        Ok(())
    }
}

fn per_second(now: &Requests, earlier: &[Requests], elapsed_ms: u64) -> String {
    let before = earlier
        .iter()
        .find(|requests| requests.operation == now.operation)
        .map_or(0, |requests| requests.count);
    let tenths = u128::from(now.count.saturating_sub(before)) * 10_000 / u128::from(elapsed_ms);
    format!("{}.{}", tenths / 10, tenths % 10)
}
