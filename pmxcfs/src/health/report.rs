//! The daemon's report on itself, as plain data: every rendering is made of this.
//!
//! [`mod@pmxcfs_api_types::figures`] has its rules.

use std::collections::BTreeMap;

use pmxcfs_api_types::figures;
use pmxcfs_memdb::store::StoreStats;
use pmxcfs_rrd::RrdStats;

figures! {
    /// The daemon at one moment.
    Report {
        /// Version of the program.
        version: String,
        /// Process id.
        pid: u32,
        /// Name of the node.
        node_name: String,
        /// How the tree is kept: `local` or `cluster`.
        mode: String,
        /// Wall clock at the start, in seconds since 1970.
        started_secs: u32 = "start_time_seconds",
        /// Time since the start.
        uptime_ms: u64 = "uptime_seconds",
        /// Whether changes are allowed as far as the quorum is concerned. Always in local mode.
        is_quorate: bool = "quorate",
        /// Everything that is wrong; empty is healthy.
        problems: Vec<Problem>,
        /// In cluster mode.
        cluster: Option<Cluster>,
        /// The tree.
        tree: Tree,
        /// What is kept for open handles only.
        open: Open,
        /// The store, which keeps the tree on disk.
        store: StoreStats,
        /// The writer of RRD files.
        rrd: RrdStats,
        /// The history of changes, unless it is off.
        history: Option<History>,
        /// The process as the kernel sees it.
        process: Process,
        /// Requests of the kernel, only of kinds that there were.
        fuse: Vec<Requests>,
        /// Requests of IPC clients, only of kinds that there were.
        ipc: Vec<Requests>,
        /// Where things are.
        paths: Paths,
    }

    /// Something that keeps the daemon from doing all of its work.
    Problem {
        /// A word for programs; see [`super::problems()`].
        code: String,
        /// A sentence for people.
        text: String,
    }

    /// Membership in a cluster.
    Cluster {
        /// Name of the cluster; empty until corosync has sent it.
        name: String,
        /// Version of corosync's configuration.
        config_version: i32 = "config_version",
        /// Nodes in corosync's list, by id.
        nodes: Vec<Node>,
        /// The process groups that this daemon is in.
        groups: Vec<Group>,
        /// The services that keep connections to corosync.
        services: Vec<Service>,
        /// Replacements by synchronisations of the last day that nobody has acknowledged.
        replaced: Vec<Replacement>,
    }

    /// Content of this node that a synchronisation replaced or removed by the leader's version.
    Replacement {
        /// Wall clock, seconds since 1970.
        at_secs: u32,
        /// The entries, by their full paths. Unprintable characters are escaped.
        paths: Vec<String>,
        /// Where the former content is kept, unless that failed.
        directory: Option<String>,
    }

    /// A node of the cluster.
    Node {
        /// Node id.
        id: u32,
        /// Name.
        name: String,
        /// Whether the node's daemon is in the status group.
        is_online: bool = "node_online",
    }

    /// A process in a group.
    Member {
        /// Node id.
        node_id: u32,
        /// Process id on that node.
        pid: u32,
        /// Name of the node, if corosync has sent it.
        node_name: Option<String>,
    }

    /// A replication group as this member sees it, at most about a second ago unless `age_ms` says otherwise.
    Group {
        /// Name of the process group.
        name: String,
        /// State of this member: the name of its [`Mode`](pmxcfs_dfsm::core::Mode).
        mode: String,
        /// Whether there is a connection to corosync.
        is_connected: bool = "group_connected",
        /// Members.
        members: Vec<Member> = "group_members",
        /// The members that a synchronisation waits for.
        waiting: Option<Waiting>,
        /// Messages that wait for the end of a synchronisation.
        queued_count: u64 = "group_queued_messages",
        /// Requests of this node without an answer, those that are held included.
        pending_count: u64 = "group_pending_requests",
        /// Requests of this node that wait until it is synced, or has joined.
        held_count: u64 = "group_held_requests",
        /// Messages that corosync has not taken yet.
        unsent_count: u64 = "group_unsent_messages",
        /// Whether corosync asks to send no more for now.
        is_blocked: bool = "group_flow_control",
        /// How long ago the numbers of this group were true.
        age_ms: u64 = "group_age_seconds",
    }

    /// The members that a synchronisation waits for.
    Waiting {
        /// Members that have sent nothing yet; for a member that is updated, those who may lead.
        members: Vec<Member>,
        /// Time since something came that a synchronisation waits for; 0 while there is none.
        silent_ms: u64 = "group_silent_seconds",
    }

    /// A connection that is kept up.
    Service {
        /// Name.
        name: String,
        /// Whether a connection to corosync does its work.
        is_running: bool = "service_running",
        /// Why not, if it has failed and will be tried again.
        error: Option<String>,
    }

    /// The tree in memory.
    Tree {
        /// Version of the tree: grows by one with every change, equal on synced members.
        version: u64 = "tree_version",
        /// Files and directories, the root included.
        entry_count: u64 = "tree_entries",
        /// Size of all files, rounded up to blocks of 4096 bytes.
        used_bytes: u64 = "tree_used_bytes",
    }

    /// What is kept for open handles only: versions of files that were removed or replaced, listings, texts of generated files.
    Open {
        /// Bytes that are kept for open handles only.
        bytes: u64 = "open_bytes",
        /// User with most of that, if there is any.
        top_uid: Option<u32>,
        /// Bytes that are kept for the open handles of the user with most of them.
        top_bytes: u64 = "open_top_bytes",
    }

    /// The process. Numbers that the kernel does not report are 0.
    Process {
        /// Memory in RAM.
        resident_bytes: u64 = "resident_bytes",
        /// Bytes that went to disks, everything of the process included. RAM-backed files do not count.
        disk_written_bytes: u64 = "disk_written_bytes_total",
        /// Processor time, user and system.
        cpu_ms: u64 = "cpu_seconds_total",
        /// Threads.
        thread_count: u64 = "threads",
        /// Open descriptors.
        descriptor_count: u64 = "descriptors",
    }

    /// The requests of one kind since the start.
    Requests {
        /// Kind of request.
        operation: String,
        /// Answered requests, refused ones included.
        count: u64,
        /// Requests without an answer.
        in_flight: u64,
        /// Refused requests by the name of the errno.
        errors: BTreeMap<String, u64>,
        /// How long answers took.
        latency: Latency,
    }

    /// Durations of requests. Percentiles are too high by at most an eighth, or by 16 ns.
    Latency {
        /// Half of the requests took no longer, in nanoseconds.
        p50_ns: u64,
        /// Nine of ten requests took no longer, in nanoseconds.
        p90_ns: u64,
        /// 99 of 100 requests took no longer, in nanoseconds.
        p99_ns: u64,
        /// 999 of 1000 requests took no longer, in nanoseconds.
        p999_ns: u64,
        /// The longest one, in nanoseconds.
        max_ns: u64,
        /// Sum of all, in nanoseconds.
        sum_ns: u64,
        /// Requests that took less than so many nanoseconds, for each of a few limits, ascending.
        below: Vec<Below>,
    }

    /// One step of a cumulative histogram.
    Below {
        /// The limit in nanoseconds.
        ns: u64,
        /// Requests below it.
        count: u64,
    }

    /// The history of changes. Counts since the start.
    History {
        /// Why nothing can be written, if that is so.
        failure: Option<String>,
        /// Version of the tree that it has reached.
        version: u64 = "history_version",
        /// For how long the oldest change has waited that is not written.
        delay_ms: u64 = "history_delay_seconds",
        /// Size of the file.
        size_bytes: u64 = "history_size_bytes",
        /// Records written.
        record_count: u64 = "history_records_total",
        /// Changes of paths that are left out.
        left_out_count: u64 = "history_left_out_total",
        /// Gaps: changes that came while none could be recorded.
        gap_count: u64 = "history_gaps_total",
    }

    /// Paths on this host. Bytes that are not UTF-8 are replaced.
    Paths {
        /// Mount point.
        mount_dir: String,
        /// The database.
        database: String,
        /// Directory of the crash journal.
        run_dir: String,
        /// PID file.
        pid_file: String,
        /// corosync's configuration.
        corosync_conf: String,
        /// Directory of RRD files.
        rrd_dir: String,
        /// Socket of rrdcached.
        rrdcached_socket: String,
        /// The control socket.
        control_socket: String,
        /// Name of the IPC service.
        ipc_service: String,
    }
}
