//! The hosts: what corosync on each of them sees of the others, their clocks and their moods.

use pmxcfs_dfsm::core::{Now, QuorumView};

/// A machine with corosync.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Hosts of the same component see each other.
    pub(crate) component: usize,
    pub(crate) is_corosync_up: bool,
    /// The daemon does not run, though it lives.
    pub(crate) is_stopped: bool,
    /// Corosync asks to try again once it has taken this many messages.
    pub(crate) capacity: Option<usize>,
    /// The next message above the atomic limit is interrupted.
    pub(crate) interrupts_next: bool,
    /// What is delivered next comes in together with what comes after it.
    pub(crate) gathers_next: bool,
    /// What the disk takes for a new tree.
    pub(crate) disk_ms: u64,
    /// The daemon waits for its disk until then.
    pub(crate) busy_until_ms: u64,
    pub(crate) clock_offset_secs: u32,
    /// What the daemon was told last.
    pub(crate) quorum_told: QuorumView,
    /// The view that its corosync reports.
    pub(crate) quorum: QuorumView,
}

impl Host {
    /// Whether corosync takes one more message.
    pub(crate) fn takes_message(&mut self) -> bool {
        match &mut self.capacity {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// All hosts and the time.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now_ms: u64,
    /// How often hosts found or lost each other, and when they did so last.
    pub(crate) regroup_count: usize,
    pub(crate) regrouped_ms: u64,
    /// Lines that tell what happened.
    pub(crate) trace: Vec<String>,
    /// Whether anybody wants to read them.
    pub(crate) is_traced: bool,
}

impl Network {
    pub(crate) fn new(count: usize) -> Self {
        let host = Host {
            component: 0,
            is_corosync_up: true,
            is_stopped: false,
            capacity: None,
            interrupts_next: false,
            gathers_next: false,
            disk_ms: 0,
            busy_until_ms: 0,
            clock_offset_secs: 0,
            quorum_told: QuorumView::default(),
            quorum: QuorumView::default(),
        };
        let mut network = Self {
            hosts: vec![host; count],
            now_ms: 1_000_000,
            regroup_count: 0,
            regrouped_ms: 1_000_000,
            trace: Vec::new(),
            is_traced: true,
        };
        network.find_quorum();
        network
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.trace.push(line());
        }
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_secs: self.wall_secs(node),
        }
    }

    pub(crate) fn wall_secs(&self, node: usize) -> u32 {
        (self.now_ms / 1000) as u32 + self.hosts[node].clock_offset_secs
    }

    /// The hosts that corosync on a host sees, itself included.
    pub(crate) fn seen_by(&self, node: usize) -> Vec<usize> {
        let host = &self.hosts[node];
        if !host.is_corosync_up {
            return Vec::new();
        }
        self.component(host.component)
    }

    /// The hosts of a component whose corosync runs.
    pub(crate) fn component(&self, component: usize) -> Vec<usize> {
        let is_in = |host: &Host| host.is_corosync_up && host.component == component;
        (0..self.hosts.len())
            .filter(|index| is_in(&self.hosts[*index]))
            .collect()
    }

    pub(crate) fn components(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.hosts.iter().map(|host| host.component).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Has corosync look who is on its side, on all hosts.
    pub(crate) fn find_quorum(&mut self) {
        for node in 0..self.hosts.len() {
            let seen = self.seen_by(node);
            let is_quorate = seen.len() * 2 > self.hosts.len();
            let nodes = seen.into_iter().map(|node| node as u32 + 1);
            let host = &mut self.hosts[node];
            host.quorum = host.quorum.followed_by(is_quorate, nodes);
        }
    }

    /// Whether the daemon handles events.
    pub(crate) fn is_awake(&self, node: usize) -> bool {
        let host = &self.hosts[node];
        !host.is_stopped && host.busy_until_ms <= self.now_ms
    }
}
