//! Problems: the parts of a report that mean that something is wrong.
//!
//! | code | meaning |
//! |---|---|
//! | `not-quorate` | changes are refused until enough nodes see each other |
//! | `store-failed` | the database cannot be written, changes are refused |
//! | `database-held` | another process holds the database; changes wait in the crash journal |
//! | `rows-differed` | the last scrub found rows of the database that differed from memory, and wrote them anew |
//! | `database-unreadable` | the last scrub could not read the database: the next start would fail |
//! | `group-not-joined` | a process group is not joined (any more) |
//! | `synchronising` | a group is exchanging or waiting for data; changes wait |
//! | `group-stopped` | a group was left for good: a newer protocol or data that cannot be trusted |
//! | `group-stalled` | a group's task has not been heard of for a while |
//! | `corosync-lost` | a service cannot reach corosync |
//! | `history-failed` | the history of changes cannot be written; the daemon serves without it |
//! | `content-replaced` | a synchronisation replaced content of this node, and nobody has acknowledged it |

use super::report::{Group, Member, Problem, Replacement, Report, Service};
use crate::text::{abridged, count};

/// Failed attempts in a row before a held database is a problem: backups and queries take moments.
const BUSY_LIMIT: u32 = 5;

/// A group is looked at once a second.
const STALLED_MS: u64 = 5_000;

/// Everything that is wrong, the worst first.
pub fn problems(report: &Report) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |code: &str, text: String| {
        let code = code.to_owned();
        problems.push(Problem { code, text });
    };
    let store = &report.store;
    if store.is_failed {
        let reason = store.failure.as_deref().unwrap_or("no reason is known");
        add(
            "store-failed",
            format!("the database cannot be written, changes are refused: {reason}"),
        );
    }
    if !report.is_quorate {
        add("not-quorate", "no quorum, changes are refused".to_owned());
    }
    if !store.is_failed && store.busy_count > BUSY_LIMIT {
        add(
            "database-held",
            "another process holds the database, changes wait in the crash journal".to_owned(),
        );
    }
    let scrub = &store.scrub;
    if let Some(failure) = &scrub.failure {
        add(
            "database-unreadable",
            format!(
                "the database cannot be read, the next start would fail: {failure}; copy {} before the daemon is stopped",
                report.paths.mount_dir
            ),
        );
    } else if !scrub.mended.is_empty() {
        add(
            "rows-differed",
            format!(
                "rows of the database differed from memory and were written anew: {}; look at the disk, then pmxcfs-ctl scrub",
                scrub.mended.join("; ")
            ),
        );
    }
    // With the database, a full disk is one problem.
    if !store.is_failed
        && let Some(history) = &report.history
        && let Some(failure) = &history.failure
    {
        add(
            "history-failed",
            format!("the history of changes cannot be written: {failure}"),
        );
    }
    if let Some(cluster) = &report.cluster {
        for group in &cluster.groups {
            if let Some((code, text)) = problem_of(group) {
                add(code, text);
            }
        }
        for service in &cluster.services {
            if let Some(text) = failure_of(service) {
                add("corosync-lost", text);
            }
        }
        for replacement in &cluster.replaced {
            add("content-replaced", replacement_text(replacement));
        }
    }
    problems
}

fn problem_of(group: &Group) -> Option<(&'static str, String)> {
    let waiting = || match &group.waiting {
        Some(waiting) => format!(
            ", waits for {} since {} s",
            names(&waiting.members),
            waiting.silent_ms / 1000
        ),
        None => String::new(),
    };
    let (code, text) = match &*group.mode {
        _ if group.age_ms > STALLED_MS => {
            let secs = group.age_ms / 1000;
            let text = format!(": its task has not been heard of for {secs} s");
            ("group-stalled", text)
        }
        "synced" => return None,
        "start-sync" => ("synchronising", format!(" exchanges states{}", waiting())),
        "update" => ("synchronising", format!(" is being updated{}", waiting())),
        "version-error" => (
            "group-stopped",
            " was left: another node speaks a newer protocol, update this one".to_owned(),
        ),
        "error" => (
            "group-stopped",
            " was left: the data of this node cannot be trusted or stored".to_owned(),
        ),
        _ => (
            "group-not-joined",
            match group.is_connected {
                true => " is being joined",
                false => " is not joined: no connection to corosync",
            }
            .to_owned(),
        ),
    };
    Some((code, format!("group {}{text}", group.name)))
}

fn replacement_text(replacement: &Replacement) -> String {
    let paths = &replacement.paths;
    let entries = count(paths.len(), "entry");
    let place = match &replacement.directory {
        Some(directory) => format!("the former content is in {directory}"),
        None => "the former content could not be kept".to_owned(),
    };
    format!(
        "{entries} replaced by the leader's version: {}; {place}; acknowledge with pmxcfs-ctl ack",
        abridged(paths).join(", ")
    )
}

fn failure_of(service: &Service) -> Option<String> {
    let error = service.error.as_deref().filter(|_| !service.is_running)?;
    Some(format!("{}: {error}", service.name))
}

/// Members in one line.
pub fn names(members: &[Member]) -> String {
    if members.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<String> = members.iter().map(Member::to_string).collect();
    names.join(", ")
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.node_name {
            Some(name) => write!(f, "{name} (node {}, pid {})", self.node_id, self.pid),
            None => write!(f, "node {} (pid {})", self.node_id, self.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use pmxcfs_memdb::store::StoreStats;

    use super::*;
    use crate::health::report::{Cluster, Waiting};

    fn healthy() -> Report {
        Report {
            mode: "cluster".to_owned(),
            is_quorate: true,
            cluster: Some(Cluster {
                groups: vec![synced("pve_dcdb_v1"), synced("pve_kvstore_v1")],
                services: vec![Service {
                    name: "quorum".to_owned(),
                    is_running: true,
                    error: None,
                }],
                ..Cluster::default()
            }),
            ..Report::default()
        }
    }

    fn synced(name: &str) -> Group {
        Group {
            name: name.to_owned(),
            mode: "synced".to_owned(),
            is_connected: true,
            ..Group::default()
        }
    }

    fn codes(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut report = healthy();
        change(&mut report);
        let problems = problems(&report);
        problems.into_iter().map(|problem| problem.code).collect()
    }

    fn group(change: impl FnOnce(&mut Group)) -> impl FnOnce(&mut Report) {
        |report| {
            let cluster = report.cluster.as_mut().expect("a member");
            change(&mut cluster.groups[0]);
        }
    }

    #[test]
    fn each_trouble_has_its_code() {
        assert!(codes(|_| {}).is_empty());
        assert_eq!(codes(|report| report.is_quorate = false), ["not-quorate"]);
        assert_eq!(
            codes(|report| report.store.is_failed = true),
            ["store-failed"]
        );
        assert!(codes(|report| report.store.busy_count = BUSY_LIMIT).is_empty());
        assert_eq!(
            codes(|report| report.store.busy_count = BUSY_LIMIT + 1),
            ["database-held"]
        );
        assert_eq!(
            codes(|report| report.store.scrub.mended = vec!["f: data differed".to_owned()]),
            ["rows-differed"]
        );
        assert_eq!(
            codes(|report| report.store.scrub.failure = Some("malformed".to_owned())),
            ["database-unreadable"]
        );
        for (mode, code) in [
            ("start", "group-not-joined"),
            ("leave", "group-not-joined"),
            ("start-sync", "synchronising"),
            ("update", "synchronising"),
            ("version-error", "group-stopped"),
            ("error", "group-stopped"),
        ] {
            assert_eq!(codes(group(|group| group.mode = mode.to_owned())), [code]);
        }
        assert_eq!(
            codes(group(|group| group.age_ms = 60_000)),
            ["group-stalled"]
        );
        let lost = codes(|report| {
            let cluster = report.cluster.as_mut().expect("a member");
            cluster.services[0].is_running = false;
            cluster.services[0].error = Some("corosync does not run".to_owned());
        });
        assert_eq!(lost, ["corosync-lost"]);
        let replaced = codes(|report| {
            let cluster = report.cluster.as_mut().expect("a member");
            cluster.replaced = vec![Replacement::default()];
        });
        assert_eq!(replaced, ["content-replaced"]);
    }

    #[test]
    fn the_worst_comes_first() {
        let codes = codes(|report| {
            report.is_quorate = false;
            report.store = StoreStats {
                is_failed: true,
                ..StoreStats::default()
            };
        });
        assert_eq!(codes, ["store-failed", "not-quorate"]);
    }

    #[test]
    fn what_was_replaced_is_named_by_path() {
        let mut replacement = Replacement {
            at_secs: 0,
            paths: vec!["load/f1".to_owned(), "load/f2".to_owned()],
            directory: Some("/discarded/1".to_owned()),
        };
        assert_eq!(
            replacement_text(&replacement),
            "2 entries replaced by the leader's version: load/f1, load/f2; the former content is in /discarded/1; \
             acknowledge with pmxcfs-ctl ack"
        );
        replacement.paths = vec!["x".to_owned(); 25];
        replacement.directory = None;
        let text = replacement_text(&replacement);
        assert!(
            text.contains(" and 5 more; the former content could not be kept"),
            "{text}"
        );
    }

    #[test]
    fn who_is_waited_for_is_named() {
        let mut report = healthy();
        group(|group| {
            group.mode = "start-sync".to_owned();
            group.waiting = Some(Waiting {
                members: vec![
                    Member {
                        node_id: 2,
                        pid: 77,
                        node_name: Some("pve2".to_owned()),
                    },
                    Member {
                        node_id: 3,
                        pid: 78,
                        node_name: None,
                    },
                ],
                silent_ms: 12_345,
            });
        })(&mut report);
        let problems = problems(&report);
        assert_eq!(
            problems[0].text,
            "group pve_dcdb_v1 exchanges states, waits for pve2 (node 2, pid 77), node 3 (pid 78) since 12 s"
        );
    }
}
