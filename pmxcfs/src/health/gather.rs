//! Makes a report of what the parts of the daemon know. Takes each lock for a moment, one at a time, and waits for nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use enum_map::EnumArray;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use pmxcfs_api_types::NodeId;
use pmxcfs_api_types::time::{millis, wall_clock_secs};
use pmxcfs_config::Config;
use pmxcfs_dfsm::core::{MemberId, Mode};
use pmxcfs_memdb::MemDb;
use pmxcfs_memdb::store::ScrubStats;
use pmxcfs_rrd::RrdWriter;
use pmxcfs_services::framework::ServiceState;
use pmxcfs_services::group::GroupStatus;
use pmxcfs_status::{ClusterInfo, Status};

use super::counters::{Meter, Series, Totals};
use super::report::{
    Below, Cluster, Group, Latency, Member, Node, Open, Paths, Process, Replacement, Report,
    Requests, Service, Tree, Waiting,
};
use super::{FuseOperation, IpcOperation, problems};
use crate::cluster::ClusterView;
use crate::fs::Filesystem;
use crate::history::serve::HistoryService;

/// Limits of the cumulative histogram: powers of two from 1 us to 17 s, every other one.
const LIMIT_BITS: std::ops::RangeInclusive<u32> = 10..=34;

/// The sources of a report.
pub(crate) struct Sources {
    pub(crate) config: Config,
    /// Moment of the start.
    pub(crate) started: Instant,
    pub(crate) db: Arc<MemDb>,
    pub(crate) files: Arc<Filesystem>,
    pub(crate) status: Arc<Status>,
    pub(crate) rrd: Arc<RrdWriter>,
    pub(crate) fuse: &'static Meter<FuseOperation>,
    pub(crate) ipc: &'static Meter<IpcOperation>,
    /// In cluster mode.
    pub(crate) cluster: Option<ClusterView>,
    /// `None` if it is off.
    pub(crate) history: Option<Arc<HistoryService>>,
}

impl Sources {
    pub(crate) fn report(&self) -> Report {
        let uptime = self.started.elapsed();
        let uptime_secs = u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX);
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node_name: self.config.node_name.clone(),
            mode: match self.cluster {
                Some(_) => "cluster",
                None => "local",
            }
            .to_owned(),
            started_secs: wall_clock_secs().saturating_sub(uptime_secs),
            uptime_ms: millis(uptime),
            is_quorate: self.status.is_quorate(),
            problems: Vec::new(),
            cluster: self.cluster.as_ref().map(|view| self.cluster(view)),
            tree: self.tree(),
            open: self.open(),
            store: self
                .db
                .store()
                .map(|store| store.stats())
                .unwrap_or_default(),
            rrd: self.rrd.stats(),
            history: self
                .history
                .as_ref()
                .map(|service| service.history.shared.report()),
            process: process(),
            fuse: requests(self.fuse),
            ipc: requests(self.ipc),
            paths: self.paths(),
        };
        report.problems = problems(&report);
        report
    }

    /// Has the database compared with memory. Returns what is known of former comparisons.
    pub(super) fn scrub(&self) -> ScrubStats {
        let Some(store) = self.db.store() else {
            return ScrubStats::default();
        };
        let before = store.stats().scrub;
        store.scrub();
        before
    }

    /// Acknowledges all replacements. Returns them.
    pub(super) fn acknowledge(&self) -> Vec<Replacement> {
        let view = self.cluster.as_ref();
        view.map(|view| view.replaced.acknowledge())
            .unwrap_or_default()
    }

    fn cluster(&self, view: &ClusterView) -> Cluster {
        let info = self.status.cluster().unwrap_or_default();
        let nodes = info.nodes.iter().map(|(id, node)| Node {
            id: id.0,
            name: text(&node.name),
            is_online: node.is_online,
        });
        let groups = view.groups().into_iter();
        Cluster {
            name: text(&info.name),
            config_version: info.config_version,
            nodes: nodes.collect(),
            groups: groups
                .map(|(name, status)| self.group(name, status, &info))
                .collect(),
            services: view.services().map(service).collect(),
            replaced: view.replaced.current(),
        }
    }

    fn group(&self, name: &str, status: Option<GroupStatus>, info: &ClusterInfo) -> Group {
        let name = name.to_owned();
        let Some(status) = status else {
            return Group {
                name,
                mode: mode(Mode::Start),
                ..Group::default()
            };
        };
        let machine = status.machine;
        let members = |ids: Vec<MemberId>| ids.into_iter().map(|id| member(id, info)).collect();
        let now_ms = millis(self.started.elapsed());
        Group {
            name,
            mode: mode(machine.mode),
            is_connected: status.is_connected,
            members: members(machine.members),
            waiting: machine.waiting.map(|waiting| Waiting {
                members: members(waiting.members),
                silent_ms: now_ms.saturating_sub(waiting.since_ms),
            }),
            queued_count: machine.queued_count as u64,
            pending_count: machine.pending_count as u64,
            held_count: machine.held_count as u64,
            unsent_count: machine.unsent_count as u64,
            is_blocked: status.is_blocked,
            age_ms: millis(status.at.elapsed()),
        }
    }

    fn tree(&self) -> Tree {
        let (root, usage) = {
            let tree = self.db.read();
            (tree.root(), tree.statfs())
        };
        Tree {
            version: root.version,
            entry_count: usage.files - usage.files_free,
            used_bytes: (usage.blocks - usage.blocks_free) * u64::from(usage.block_size),
        }
    }

    fn open(&self) -> Open {
        let by_user = self.files.open_bytes();
        let top = by_user.iter().max_by_key(|(_, bytes)| **bytes);
        Open {
            bytes: by_user.values().sum(),
            top_uid: top.map(|(uid, _)| *uid),
            top_bytes: top.map_or(0, |(_, bytes)| *bytes),
        }
    }

    fn paths(&self) -> Paths {
        let paths = &self.config.paths;
        let shown = |path: &Path| path.display().to_string();
        Paths {
            mount_dir: shown(&paths.mount_dir),
            database: shown(&paths.database()),
            run_dir: shown(&paths.run_dir),
            pid_file: shown(&paths.pid_file),
            corosync_conf: shown(&paths.corosync_conf),
            rrd_dir: shown(&paths.rrd_dir),
            rrdcached_socket: shown(&paths.rrdcached_socket),
            control_socket: shown(&paths.control_socket()),
            ipc_service: self.config.ipc_name.clone(),
        }
    }
}

/// Names come from users; a report is text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn member(id: MemberId, info: &ClusterInfo) -> Member {
    Member {
        node_id: id.node,
        pid: id.pid,
        node_name: info
            .nodes
            .get(&NodeId(id.node))
            .map(|node| text(&node.name)),
    }
}

fn mode(mode: Mode) -> String {
    <&str>::from(mode).to_owned()
}

fn service((name, state): (&str, ServiceState)) -> Service {
    let is_running = state.is_running();
    let error = match state {
        ServiceState::Waiting { error } => Some(error),
        _ => None,
    };
    Service {
        name: name.to_owned(),
        is_running,
        error,
    }
}

/// The kinds of requests that there were.
fn requests<O>(meter: &Meter<O>) -> Vec<Requests>
where
    O: EnumArray<Series> + Into<&'static str>,
{
    let totals = meter.totals();
    let seen = totals.filter(|(_, totals)| totals.count() + totals.in_flight > 0);
    seen.map(|(operation, totals)| Requests {
        operation: operation.into().to_owned(),
        count: totals.count(),
        in_flight: totals.in_flight,
        errors: errors(&totals),
        latency: latency(&totals),
    })
    .collect()
}

fn errors(totals: &Totals) -> BTreeMap<String, u64> {
    let errors = totals.errors.iter();
    errors
        .map(|(errno, count)| match Errno::from_raw(*errno) {
            Errno::UnknownErrno => (errno.to_string(), *count),
            errno => (format!("{errno:?}"), *count),
        })
        .collect()
}

fn latency(totals: &Totals) -> Latency {
    let percentile = |per_mille| totals.percentile(per_mille).unwrap_or(0);
    let below = LIMIT_BITS.step_by(2).map(|bits| Below {
        ns: 1 << bits,
        count: totals.count_below(bits),
    });
    Latency {
        p50_ns: percentile(500),
        p90_ns: percentile(900),
        p99_ns: percentile(990),
        p999_ns: percentile(999),
        max_ns: totals.max_ns,
        sum_ns: totals.sum_ns,
        below: below.collect(),
    }
}

fn process() -> Process {
    // The descriptor of the listing itself is none of the daemon's.
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let Ok(own) = procfs::process::Process::myself() else {
        return Process::default();
    };
    let status = own.status().ok();
    let resident_kib = status.as_ref().and_then(|status| status.vmrss);
    let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Process {
        resident_bytes: resident_kib.unwrap_or(0).saturating_mul(1024),
        disk_written_bytes: own.io().map_or(0, |io| io.write_bytes),
        cpu_ms: cpu.map_or(0, |time| millis(time.into())),
        thread_count: status.map_or(0, |status| status.threads),
        descriptor_count: descriptors.saturating_sub(1) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let process = process();
        assert!(process.resident_bytes > 1 << 20);
        assert!(process.thread_count >= 1);
        assert!(process.descriptor_count >= 3);
    }
}
