//! The daemon's report on itself, as plain data: every rendering is made of this.
//!
//! A report goes over the control socket as JSON. A reader takes what it knows and fills in the rest with nothing, so that
//! programs and daemons of different versions understand each other: fields are added and never change their meaning.
//! Durations are counted by the daemon's monotonic clock, in the unit that the field's name ends with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The daemon at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Name of the node.
    pub node_name: String,
    /// Local mode or cluster mode.
    pub mode: Mode,
    /// Wall clock at the start, seconds since 1970.
    pub started_secs: u32,
    /// Time since the start in milliseconds.
    pub uptime_ms: u64,
    /// Whether changes are allowed as far as the quorum is concerned. Always in local mode.
    pub is_quorate: bool,
    /// Everything that is wrong; empty is healthy.
    pub problems: Vec<Problem>,
    /// In cluster mode.
    pub cluster: Option<Cluster>,
    /// The tree.
    pub tree: Tree,
    /// The store, which keeps the tree on disk.
    pub store: Store,
    /// The writer of RRD files.
    pub rrd: Rrd,
    /// The history of changes, unless it is off.
    pub history: Option<History>,
    /// The process as the kernel sees it.
    pub process: Process,
    /// Requests of the kernel, only of kinds that there were.
    pub fuse: Vec<Requests>,
    /// Requests of IPC clients, only of kinds that there were.
    pub ipc: Vec<Requests>,
    /// Where things are.
    pub paths: Paths,
}

/// How the tree is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// On its own.
    #[default]
    Local,
    /// Replicated.
    Cluster,
}

/// Something that keeps the daemon from doing all of its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// A word for programs; see [`super::problems()`].
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// The history of changes. Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Why nothing can be written, if that is so.
    pub failure: Option<String>,
    /// Version of the tree that it has reached.
    pub version: u64,
    /// For how long the oldest change has waited that is not written.
    pub delay_ms: u64,
    /// Size of the file.
    pub size_bytes: u64,
    /// Records written.
    pub record_count: u64,
    /// Changes of paths that are left out.
    pub left_out_count: u64,
    /// Gaps: changes that came while none could be recorded.
    pub gap_count: u64,
}

/// Membership in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Name of the cluster; empty until corosync has sent it.
    pub name: String,
    /// Version of corosync's configuration.
    pub config_version: i32,
    /// Nodes in corosync's list, by id.
    pub nodes: Vec<Node>,
    /// The process groups that this daemon is in.
    pub groups: Vec<Group>,
    /// The services that keep connections to corosync.
    pub services: Vec<Service>,
    /// Replacements by synchronisations of the last day that nobody has acknowledged.
    pub replaced: Vec<Replacement>,
}

/// Content of this node that a synchronisation replaced or removed by the leader's version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replacement {
    /// Wall clock, seconds since 1970.
    pub at_secs: u32,
    /// The entries, by their full paths. Unprintable characters are escaped.
    pub paths: Vec<String>,
    /// Where the former content is kept, unless that failed.
    pub directory: Option<String>,
}

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Node id.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Whether its daemon is in the status group.
    pub is_online: bool,
}

/// A process in a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Node id.
    pub node_id: u32,
    /// Process id on that node.
    pub pid: u32,
    /// Name of the node, if corosync has sent it.
    pub node_name: Option<String>,
}

/// A replication group as this member sees it, at most about a second ago unless `age_ms` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Name of the process group.
    pub name: String,
    /// State of this member.
    pub mode: GroupMode,
    /// Whether there is a connection to corosync.
    pub is_connected: bool,
    /// The last membership.
    pub members: Vec<Member>,
    /// The members that a synchronisation waits for.
    pub waiting: Option<Waiting>,
    /// Messages that wait for the end of a synchronisation.
    pub queued_count: u64,
    /// Requests of this node without an answer, those that are held included.
    pub pending_count: u64,
    /// Requests of this node that wait until it is synced, or has joined.
    pub held_count: u64,
    /// Messages that corosync has not taken yet.
    pub unsent_count: u64,
    /// Whether corosync asks to send no more for now.
    pub is_blocked: bool,
    /// How long ago all this was true, in milliseconds.
    pub age_ms: u64,
}

/// State of a member of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupMode {
    /// No membership yet.
    #[default]
    Start,
    /// The members exchange their states.
    StartSync,
    /// Its data are those of the others.
    Synced,
    /// It waits for the leader's data.
    Update,
    /// It leaves and will join again.
    Leave,
    /// It met a newer protocol and stays out.
    VersionError,
    /// Its own data cannot be trusted; it stays out.
    Error,
    /// A mode that this program does not know.
    #[serde(other)]
    Unknown,
}

/// The members that a synchronisation waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Members that have sent nothing yet; for a member that is updated, those who may lead.
    pub members: Vec<Member>,
    /// Time since something came that is waited for, in milliseconds.
    pub silent_ms: u64,
}

/// A connection that is kept up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Whether it does its work.
    pub is_running: bool,
    /// Why not, if it has failed and will be tried again.
    pub error: Option<String>,
}

/// The tree in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tree {
    /// Version: grows by one with every change. Equal on synced members.
    pub version: u64,
    /// Files and directories, the root included.
    pub entry_count: u64,
    /// Size of all files in bytes, rounded up to blocks of 4096.
    pub used_bytes: u64,
}

/// The store: database and crash journal. Counters are those since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// Whether the database cannot be written, so that changes are refused.
    pub is_failed: bool,
    /// Why.
    pub failure: Option<String>,
    /// Times in a row that another process held the database when it was to be written.
    pub busy_count: u32,
    /// Transactions committed.
    pub commit_count: u64,
    /// Commits tried in vain.
    pub failed_commit_count: u64,
    /// Wall clock of the last commit, seconds since 1970; 0 if there was none.
    pub last_commit_secs: u32,
    /// Duration of the last commit in microseconds.
    pub last_commit_us: u64,
    /// Operations that are not in the database yet.
    pub queued_operation_count: u64,
    /// Entries changed since the last commit began.
    pub queued_entry_count: u64,
    /// Operations whose caller waits for a commit.
    pub waiter_count: u64,
    /// Rows written or deleted.
    pub row_count: u64,
    /// Bytes of content in those rows.
    pub content_bytes: u64,
    /// Bytes written to the crash journal.
    pub journaled_bytes: u64,
    /// Bytes in the crash journal now.
    pub journal_size_bytes: u64,
    /// Bytes of its files, which keep room.
    pub journal_allocated_bytes: u64,
    /// Bytes in SQLite's log.
    pub log_size_bytes: u64,
    /// Checkpoints of that log.
    pub checkpoint_count: u64,
    /// Times that another program had changed the database.
    pub foreign_change_count: u64,
}

/// The RRD writer. Counters are those since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rrd {
    /// Values waiting now.
    pub queued_count: u64,
    /// Values that rrdcached took.
    pub rrdcached_count: u64,
    /// Values written to files directly.
    pub direct_count: u64,
    /// Values dropped because the queue was full.
    pub dropped_count: u64,
    /// Values without a file, of no use, or refused by RRD.
    pub lost_count: u64,
}

/// The process. Numbers that the kernel does not report are 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Memory in RAM, in bytes.
    pub resident_bytes: u64,
    /// Bytes that went to disks, everything of the process included. RAM-backed files do not count.
    pub disk_written_bytes: u64,
    /// Processor time in milliseconds, user and system.
    pub cpu_ms: u64,
    /// Threads.
    pub thread_count: u64,
    /// Open descriptors.
    pub descriptor_count: u64,
}

/// The requests of one kind since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Kind of request.
    pub operation: String,
    /// Answered requests, refused ones included.
    pub count: u64,
    /// Requests without an answer.
    pub in_flight: u64,
    /// Refused requests by the name of the errno.
    pub errors: BTreeMap<String, u64>,
    /// How long answers took.
    pub latency: Latency,
}

/// Durations of requests. Percentiles are too high by at most an eighth, or by 16 ns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Half of the requests took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// Nine of ten requests took no longer, in nanoseconds.
    pub p90_ns: u64,
    /// 99 of 100 requests took no longer, in nanoseconds.
    pub p99_ns: u64,
    /// 999 of 1000 requests took no longer, in nanoseconds.
    pub p999_ns: u64,
    /// The longest one, in nanoseconds.
    pub max_ns: u64,
    /// Sum of all, in nanoseconds.
    pub sum_ns: u64,
    /// Requests that took less than so many nanoseconds, for each of a few limits, ascending.
    pub below: Vec<Below>,
}

/// One step of a cumulative histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Below {
    /// The limit in nanoseconds.
    pub ns: u64,
    /// Requests below it.
    pub count: u64,
}

/// Paths on this host. Bytes that are not UTF-8 are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paths {
    /// Mount point.
    pub mount_dir: String,
    /// The database.
    pub database: String,
    /// Directory of the crash journal.
    pub run_dir: String,
    /// PID file.
    pub pid_file: String,
    /// corosync's configuration.
    pub corosync_conf: String,
    /// Directory of RRD files.
    pub rrd_dir: String,
    /// Socket of rrdcached.
    pub rrdcached_socket: String,
    /// The control socket.
    pub control_socket: String,
    /// Name of the IPC service.
    pub ipc_service: String,
}
