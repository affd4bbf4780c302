//! The end of all faults, and what must follow from it: everybody is synced, equal and writable.

use bytes::Bytes;
use pmxcfs_dfsm::core::Mode;
use pmxcfs_memdb::Operation;

use super::{
    checks::{Checks, fingerprint, listing},
    cluster::Cluster,
    step::{Channel, Step},
};

/// Rounds of half a second until peace must have come. Longer than the longest back-off and the longest silence that a
/// member endures, together.
const ROUND_COUNT: usize = 300;

/// An hour, after which data are verified.
const VERIFY_MS: u64 = 3_600_000;

/// Ends all faults and demands that everybody is synced, equal and writable.
pub(crate) fn heal(cluster: &mut Cluster, checks: &mut Checks) {
    let mut healing = Healing { cluster, checks };
    healing.mend();
    healing.settle();
    for round in ["peace", "verified"] {
        healing.write_everywhere(round);
        healing.verify();
    }
    healing.checks.before_last_exchange(healing.cluster);
    healing.part_and_meet();
    healing.settle();
    healing.demand_equality();
    healing.checks.end(healing.cluster);
}

struct Healing<'a> {
    cluster: &'a mut Cluster,
    checks: &'a mut Checks,
}

impl Healing<'_> {
    fn act(&mut self, step: &Step) {
        self.checks.before(step, self.cluster);
        self.cluster.apply(step);
        self.checks.look(self.cluster);
    }

    fn nodes(&self) -> std::ops::Range<usize> {
        0..self.cluster.count()
    }

    fn mend(&mut self) {
        self.cluster.network.tell(|| "healing".to_owned());
        let has_ours = self.cluster.is_ours.iter().any(|is_ours| *is_ours);
        for node in self.nodes() {
            self.act(&Step::Continue(node));
            self.act(&Step::Congest {
                node,
                capacity: None,
            });
            self.cluster.network.hosts[node].interrupts_next = false;
            self.cluster.network.hosts[node].gathers_next = false;
            self.cluster.network.hosts[node].busy_until_ms = 0;
            self.act(&Step::SlowDisk { node, ms: 0 });
            self.act(&Step::StartCorosync(node));
        }
        if !has_ours {
            // Nobody would leave to get the list right.
            self.cluster.database.cpg.ghosts.clear();
            self.cluster.status.cpg.ghosts.clear();
        }
        let sides = vec![0; self.cluster.count()];
        self.act(&Step::Partition {
            sides,
            lost: 0,
            in_steps: false,
        });
        if !has_ours {
            self.cluster
                .database
                .cpg
                .announce_view(&self.cluster.network, 0);
            self.cluster
                .status
                .cpg
                .announce_view(&self.cluster.network, 0);
        }
    }

    /// What only an operator can do: start what is down, and what has given up for good.
    fn operate(&mut self) {
        for node in self.nodes() {
            let mode = self.cluster.mode(node);
            let is_ours = self.cluster.is_ours[node];
            let has_given_up = match mode {
                Some(Mode::VersionError) => true,
                Some(Mode::Error) => !is_ours,
                _ => false,
            };
            let is_broken = self
                .cluster
                .disk(node)
                .is_some_and(|disk| disk.is_failed || disk.changes_left.is_some());
            if is_ours && (is_broken || mode == Some(Mode::Error)) {
                self.act(&Step::MendDisk(node));
            } else if has_given_up || is_broken {
                self.act(&Step::Crash(node));
            }
            self.act(&Step::Start {
                node,
                is_empty: false,
            });
        }
    }

    /// Time passes and everything arrives, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..ROUND_COUNT {
            self.operate();
            self.act(&Step::Later(500));
            for node in self.nodes() {
                self.act(&Step::Quorum(node));
                self.act(&Step::Tick(node));
            }
            self.deliver_all();
            if self.is_settled() {
                return;
            }
        }
        panic!(
            "progress: no peace after the faults ended\n{}",
            listing(self.cluster)
        );
    }

    fn deliver_all(&mut self) {
        for _ in 0..2000 {
            if self.is_quiet() {
                return;
            }
            for node in self.nodes() {
                for channel in [Channel::Database, Channel::Status] {
                    self.act(&Step::Order { node, channel });
                    self.act(&Step::Deliver {
                        node,
                        channel,
                        count: 1,
                    });
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.nodes().all(|node| {
            self.cluster.database.cpg.is_quiet(node) && self.cluster.status.cpg.is_quiet(node)
        })
    }

    fn is_settled(&self) -> bool {
        let count = self.cluster.count();
        let is_in =
            |mode: Option<Mode>, members: usize| mode == Some(Mode::Synced) && members == count;
        let is_synced = |node: usize| {
            let database = self.cluster.database.members[node].as_ref();
            let status = self.cluster.status.members[node].as_ref();
            is_in(
                self.cluster.mode(node),
                database.map_or(0, |member| member.replica.members().len()),
            ) && is_in(
                self.cluster.status.mode(node),
                status.map_or(0, |member| member.replica.members().len()),
            )
        };
        self.is_quiet() && self.cluster.pending.is_empty() && self.nodes().all(is_synced)
    }

    /// A write on every node reaches every node.
    fn write_everywhere(&mut self, name: &str) {
        let path = |node: usize| Bytes::from(format!("once-{name}-{}", node + 1));
        for node in self.nodes() {
            let operation = Operation::Mkdir { path: path(node) };
            self.act(&Step::Ask { node, operation });
            self.act(&Step::Set {
                node,
                key: name.to_owned(),
                value: "1".to_owned(),
            });
        }
        self.settle();
        for node in self.nodes() {
            let tree = self.cluster.tree(node).expect("it runs");
            for other in self.nodes() {
                let is_there = tree.lookup(&path(other)).is_some();
                assert!(
                    is_there || self.checks.strays.has_strayed(node),
                    "progress: node {} lacks {:?}\n{}",
                    node + 1,
                    path(other),
                    listing(self.cluster)
                );
            }
        }
    }

    /// Who has strayed is found and repaired.
    fn verify(&mut self) {
        self.act(&Step::Later(VERIFY_MS));
        self.settle();
        self.settle();
    }

    /// One more exchange.
    fn part_and_meet(&mut self) {
        let count = self.cluster.count();
        let mut sides = vec![0; count];
        sides[count - 1] = 1;
        for sides in [sides, vec![0; count]] {
            self.act(&Step::Partition {
                sides,
                lost: 0,
                in_steps: false,
            });
            for node in self.nodes() {
                self.act(&Step::Quorum(node));
            }
            self.deliver_all();
        }
    }

    fn demand_equality(&self) {
        let trees = self
            .nodes()
            .map(|node| self.cluster.tree(node).expect("it runs"));
        let mut prints = trees.map(fingerprint);
        let first = prints.next();
        assert!(
            prints.all(|print| Some(print) == first),
            "progress: not all hold the same\n{}",
            listing(self.cluster)
        );
    }
}
