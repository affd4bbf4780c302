//! A report as text for people.

use std::fmt::Write as _;

use pmxcfs_memdb::store::StoreStats;

use crate::health::names;
use crate::health::report::{Cluster, Group, Paths, Report, Requests};
use crate::text::{bytes, count, nanos, printable, seconds};

/// Adds a line to a page: its subject and its text. An empty subject continues the line before.
macro_rules! line {
    ($page:expr, $name:expr, $($text:tt)*) => {
        writeln!($page, "{:<11}{}", $name, format_args!($($text)*)).expect("a string takes everything")
    };
}

/// Renders a report. With an earlier one it is meant for a screen: it shows rates since that and leaves out constant lines.
pub(super) fn render(report: &Report, earlier: Option<&Report>) -> String {
    let mut page = String::new();
    head(report, &mut page);
    if let Some(cluster) = &report.cluster {
        show_cluster(cluster, &mut page);
    }
    let tree = &report.tree;
    let (entries, size) = (count(tree.entry_count, "entry"), bytes(tree.used_bytes));
    line!(page, "tree", "version {}, {entries}, {size}", tree.version);
    let open = &report.open;
    let top = open
        .top_uid
        .map(|uid| format!(", {} of it for uid {uid}", bytes(open.top_bytes)));
    let (size, top) = (bytes(open.bytes), top.unwrap_or_default());
    line!(page, "open", "{size} kept for open files and listings{top}");
    // The wall clock of the daemon when it made the report.
    let now_secs = u64::from(report.started_secs) + report.uptime_ms / 1000;
    show_store(&report.store, now_secs, &mut page);
    show_rest(report, &mut page);
    if earlier.is_none() {
        show_paths(&report.paths, &mut page);
    }
    // Without a later report of the same daemon there are no rates.
    let earlier = earlier
        .filter(|earlier| earlier.pid == report.pid && earlier.uptime_ms < report.uptime_ms)
        .map(|earlier| (earlier, report.uptime_ms - earlier.uptime_ms));
    let fuse = earlier.map(|(earlier, ms)| (&*earlier.fuse, ms));
    show_requests("fuse", &report.fuse, fuse, &mut page);
    let ipc = earlier.map(|(earlier, ms)| (&*earlier.ipc, ms));
    show_requests("ipc", &report.ipc, ipc, &mut page);
    page
}

fn head(report: &Report, page: &mut String) {
    let node = printable(&report.node_name);
    let verdict = match report.problems.len() {
        0 => "healthy".to_owned(),
        problems => format!("DEGRADED, {}", count(problems, "problem")),
    };
    line!(page, "pmxcfs", "{node}: {verdict}");
    for problem in &report.problems {
        let (code, text) = (printable(&problem.code), printable(&problem.text));
        line!(page, "", "! {code}: {text}");
    }
    let uptime = seconds(report.uptime_ms / 1000);
    let version = printable(&report.version);
    line!(
        page,
        "process",
        "version {version}, pid {}, up {uptime}",
        report.pid
    );
    let quorum = if report.is_quorate {
        "quorate"
    } else {
        "NOT QUORATE"
    };
    line!(page, "mode", "{}, {quorum}", printable(&report.mode));
}

fn show_cluster(cluster: &Cluster, page: &mut String) {
    let nodes = count(cluster.nodes.len(), "node");
    let (name, version) = (printable(&cluster.name), cluster.config_version);
    match cluster.nodes.is_empty() {
        true => line!(page, "cluster", "corosync has not sent the list of nodes"),
        false => line!(
            page,
            "cluster",
            "{name}, {nodes}, configuration version {version}"
        ),
    }
    for node in &cluster.nodes {
        let state = if node.is_online { "online" } else { "OFFLINE" };
        line!(
            page,
            "",
            "{} (node {}): {state}",
            printable(&node.name),
            node.id
        );
    }
    for service in &cluster.services {
        let state = match (&service.error, service.is_running) {
            (_, true) => "running".to_owned(),
            (Some(error), false) => format!("FAILED: {}", printable(error)),
            (None, false) => "starting".to_owned(),
        };
        line!(page, "service", "{}: {state}", service.name);
    }
    for group in &cluster.groups {
        show_group(group, page);
    }
}

fn show_group(group: &Group, page: &mut String) {
    let mode = match &*group.mode {
        "start" => "not joined",
        "start-sync" => "exchanging states",
        "synced" => "synced",
        "update" => "being updated",
        "leave" => "leaving, to join again",
        "version-error" => "left: newer protocol",
        "error" => "left: error",
        _ => "unknown",
    };
    line!(
        page,
        "group",
        "{}: {mode}, {}: {}",
        printable(&group.name),
        count(group.members.len(), "member"),
        printable(&names(&group.members))
    );
    if let Some(waiting) = &group.waiting {
        let members = printable(&names(&waiting.members));
        let since = seconds(waiting.silent_ms / 1000);
        line!(page, "", "WAITING for {members}, since {since}");
    }
    let blocked = if group.is_blocked {
        ", corosync asks to wait"
    } else {
        ""
    };
    line!(
        page,
        "",
        "{}, {} of them held, {} queued, {} unsent{blocked}",
        count(group.pending_count, "pending request"),
        group.held_count,
        count(group.queued_count, "message"),
        group.unsent_count
    );
}

fn show_store(store: &StoreStats, now_secs: u64, page: &mut String) {
    let state = match (&store.failure, store.is_failed, store.busy_count) {
        (Some(failure), true, _) => format!("FAILED: {}", printable(failure)),
        (None, true, _) => "FAILED".to_owned(),
        (_, false, 0) => "running".to_owned(),
        (_, false, tries) => {
            format!("held by another process, {}", count(tries, "attempt"))
        }
    };
    line!(page, "store", "{state}");
    let last = match store.last_commit_secs {
        0 => "none yet".to_owned(),
        secs => format!(
            "last {} ago, in {}",
            seconds(now_secs.saturating_sub(secs.into())),
            nanos(store.last_commit_us.saturating_mul(1000)),
        ),
    };
    line!(
        page,
        "",
        "{}, {} failed, {last}",
        count(store.commit_count, "commit"),
        store.failed_commit_count
    );
    line!(
        page,
        "",
        "{} queued, {} changed since the last commit began, {} waiting for a commit",
        count(store.queued_operation_count, "operation"),
        count(store.queued_entry_count, "entry"),
        count(store.waiter_count, "caller")
    );
    line!(
        page,
        "",
        "written: {} in {}, {} of crash journal",
        bytes(store.content_bytes),
        count(store.row_count, "row"),
        bytes(store.journaled_bytes)
    );
    line!(
        page,
        "",
        "crash journal {} (files {}), SQLite's log {}, {}",
        bytes(store.journal_size_bytes),
        bytes(store.journal_allocated_bytes),
        bytes(store.log_size_bytes),
        count(store.checkpoint_count, "checkpoint")
    );
    if store.foreign_change_count > 0 {
        line!(
            page,
            "",
            "another program changed the database: {} noticed",
            count(store.foreign_change_count, "change")
        );
    }
    let scrub = &store.scrub;
    if scrub.run_count > 0 || scrub.is_running {
        let state = match (scrub.is_running, scrub.last_secs) {
            (true, _) => "running".to_owned(),
            (false, secs) => format!("last {} ago", seconds(now_secs.saturating_sub(secs.into()))),
        };
        line!(
            page,
            "",
            "scrub: {state}, {} compared, {} written anew since the start",
            count(scrub.row_count, "row"),
            scrub.mended_count
        );
    }
}

/// The parts with one line each.
fn show_rest(report: &Report, page: &mut String) {
    match &report.history {
        None => line!(page, "history", "off"),
        Some(history) => line!(
            page,
            "history",
            "version {}, {}, {}, {} left out, {}",
            history.version,
            bytes(history.size_bytes),
            count(history.record_count, "new record"),
            count(history.left_out_count, "change"),
            count(history.gap_count, "gap")
        ),
    }
    let (rrd, process) = (&report.rrd, &report.process);
    line!(
        page,
        "rrd",
        "{} queued; {} to rrdcached, {} to files, {} dropped, {} lost",
        count(rrd.queued_count, "value"),
        rrd.rrdcached_count,
        rrd.direct_count,
        rrd.dropped_count,
        rrd.lost_count
    );
    line!(
        page,
        "resources",
        "{} in RAM, {} written to disks, {} of processor time, {}, {}",
        bytes(process.resident_bytes),
        bytes(process.disk_written_bytes),
        nanos(process.cpu_ms.saturating_mul(1_000_000)),
        count(process.thread_count, "thread"),
        count(process.descriptor_count, "descriptor")
    );
}

fn show_paths(paths: &Paths, page: &mut String) {
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
        line!(page, name, "{what:<15} {}", printable(path));
        name = "";
    }
}

/// One line for each kind of request.
fn show_requests(
    title: &str,
    requests: &[Requests],
    earlier: Option<(&[Requests], u64)>,
    page: &mut String,
) {
    if requests.is_empty() {
        return;
    }
    let rate = if earlier.is_some() { "per second" } else { "" };
    writeln!(
        page,
        "\n{title:<17}{:>11}{rate:>11}{:>10}{:>9}{:>9}{:>9}{:>9}  errors",
        "requests", "in flight", "p50", "p90", "p99", "max"
    )
    .expect("a string takes everything");
    for row in requests {
        let rate = earlier.map(|(earlier, elapsed_ms)| per_second(row, earlier, elapsed_ms));
        let latency = &row.latency;
        let latencies = [
            latency.p50_ns,
            latency.p90_ns,
            latency.p99_ns,
            latency.max_ns,
        ];
        let errors: Vec<String> = row
            .errors
            .iter()
            .map(|(errno, count)| format!("{count} {}", printable(errno)))
            .collect();
        let line = format!(
            "  {:<15}{:>11}{:>11}{:>10}{}  {}",
            printable(&row.operation),
            row.count,
            rate.unwrap_or_default(),
            row.in_flight,
            latencies.map(|ns| format!("{:>9}", nanos(ns))).concat(),
            errors.join(", ")
        );
        writeln!(page, "{}", line.trim_end()).expect("a string takes everything");
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
