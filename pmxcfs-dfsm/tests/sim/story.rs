//! One seeded life of a cluster: faults and writes at random, checks after every step, then peace and progress.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::core::{Event, MemberId, Mode};
use pmxcfs_memdb::{Entry, Operation, ROOT_INODE, RootState};

use super::{
    cluster::{Asked, Cluster, entries},
    random::Random,
};

/// Steps with faults.
const STEPS: usize = 1500;

/// What a seed may do.
#[derive(Debug, Clone, Copy)]
struct Profile {
    /// Everything goes wrong. Otherwise only the network does, and quorum is told in time: then an acknowledged write must
    /// survive. It need not if daemons die on nodes whose corosync goes on counting for the quorum.
    is_rough: bool,
}

/// Tells what happened until a check failed.
impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("PMXCFS_SIM_SEED").is_some() {
            println!("{}", self.cluster.transcript.join("\n"));
        }
    }
}

pub(crate) struct Story {
    cluster: Cluster,
    random: Random,
    profile: Profile,
    /// What synced members hold, by view and position in its order.
    held: BTreeMap<(u64, u64), (RootState, Vec<Entry>)>,
    next_name: u64,
    checked_count: usize,
}

/// Runs a seed; panics with what went wrong.
pub(crate) fn run(seed: u64) {
    let mut random = Random::new(seed);
    let count = 2 + random.below(4);
    let profile = Profile {
        is_rough: random.chance(60),
    };
    let mut cluster = Cluster::new(count);
    for node in 0..count {
        cluster.nodes[node].clock_offset_secs = random.below(4000) as u32;
        cluster.start(node, false);
    }
    let mut story = Story {
        cluster,
        random,
        profile,
        held: BTreeMap::new(),
        next_name: 0,
        checked_count: 0,
    };
    if !profile.is_rough {
        story.settle();
    }
    if profile.is_rough {
        story.settle();
        (0..4).for_each(|_| story.interrupt_an_update());
    }
    for _ in 0..STEPS {
        story.step();
    }
    story.heal();
}

impl Story {
    fn step(&mut self) {
        let count = self.cluster.nodes.len();
        let node = self.random.below(count);
        match self.random.below(1000) {
            0..500 => {
                self.deliver(node);
                if self.cluster.mode(node) == Some(Mode::Update) && self.random.chance(70) {
                    self.disturb_update(node);
                }
            }
            500..700 => self.cluster.order(node),
            700..800 => self.ask(node),
            800..940 => {
                self.cluster.now_ms += self.random.below(100) as u64;
                self.tick(node);
            }
            940..955 => self.pass_time(),
            955..970 => self.cut(),
            _ if !self.profile.is_rough => self.cluster.order(node),
            970..976 => self.cluster.crash(node),
            976..984 => self.restart(node),
            984..987 => self.cluster.nodes[node].is_stopped ^= true,
            987..990 => self.add_ghost(node),
            990..993 => self.cluster.is_congested ^= true,
            993..995 => self.cluster.disconnect(node),
            995..996 => self.break_disk(node),
            996..998 => self.mend_disk(node),
            _ => self.tell_quorum(node),
        }
        self.check();
    }

    /// A node misses a write, comes back, and writes while it is brought up to date; then another node dies.
    fn interrupt_an_update(&mut self) {
        let count = self.cluster.nodes.len();
        let (node, other) = (self.random.below(count), self.random.below(count));
        self.cluster.crash(node);
        self.settle();
        if node != other {
            let operation = self.make_once();
            self.cluster.ask(other, operation);
        }
        self.settle();
        self.cluster.start(node, true);
        self.cluster.tick(node);
        for _ in 0..400 {
            let next = self.random.below(count);
            if self.random.chance(40) {
                self.cluster.order(next);
            } else {
                self.deliver(next);
            }
            self.check();
            if self.cluster.mode(node) == Some(Mode::Update) {
                self.disturb_update(node);
                break;
            }
        }
        for node in 0..count {
            self.restart(node);
        }
        self.cluster.partition(&vec![0; count]);
        self.settle();
        self.check();
    }

    /// A member that is not synced writes, sees its write arrive, and then the group changes.
    fn disturb_update(&mut self, node: usize) {
        let operation = self.make_once();
        self.cluster.ask(node, operation);
        for _ in 0..6 {
            self.cluster.order(node);
            self.deliver(node);
        }
        if self.cluster.mode(node) == Some(Mode::Update) {
            let other = self.random.below(self.cluster.nodes.len());
            if self.profile.is_rough && other != node && self.random.chance(50) {
                self.cluster.crash(other);
            } else {
                self.cut();
            }
        }
    }

    /// Without roughness the quorum is known before what follows from it.
    fn deliver(&mut self, node: usize) {
        if self.cluster.nodes[node].is_stopped {
            return;
        }
        if !self.profile.is_rough {
            self.tell_quorum(node);
        }
        self.cluster.deliver(node);
        self.compare(node);
    }

    fn tick(&mut self, node: usize) {
        if !self.cluster.nodes[node].is_stopped {
            self.cluster.tick(node);
        }
    }

    fn tell_quorum(&mut self, node: usize) {
        if self.cluster.is_quorum_news(node) {
            self.cluster.tell_quorum(node);
        }
    }

    fn pass_time(&mut self) {
        let limit_ms = if self.profile.is_rough { 12_000 } else { 500 };
        self.cluster.now_ms += self.random.below(limit_ms) as u64;
        for node in 0..self.cluster.nodes.len() {
            self.tick(node);
        }
    }

    fn cut(&mut self) {
        let count = self.cluster.nodes.len();
        let sides = 1 + self.random.below(2);
        let partitions: Vec<usize> = (0..count).map(|_| self.random.below(sides)).collect();
        if !self.profile.is_rough {
            self.settle();
            self.write_a_little();
        }
        self.cluster.partition(&partitions);
        if !self.profile.is_rough {
            for node in 0..count {
                self.tell_quorum(node);
            }
        }
    }

    /// Leaves messages on their way.
    fn write_a_little(&mut self) {
        for _ in 0..40 {
            let node = self.random.below(self.cluster.nodes.len());
            match self.random.below(3) {
                0 => self.ask(node),
                1 => self.cluster.order(node),
                _ => self.deliver(node),
            }
        }
    }

    fn restart(&mut self, node: usize) {
        if self.cluster.nodes[node].process.is_none() {
            let keeps_disk = self.random.chance(80);
            self.cluster.start(node, keeps_disk);
        }
    }

    fn break_disk(&mut self, node: usize) {
        if let Some(process) = &mut self.cluster.nodes[node].process {
            process.disk().is_failed = true;
        }
    }

    fn mend_disk(&mut self, node: usize) {
        let Some(process) = &mut self.cluster.nodes[node].process else {
            return;
        };
        if std::mem::take(&mut process.disk().is_failed) {
            self.cluster.feed(node, Event::Mended);
        }
    }

    /// Corosync lists a process that joined and died in one round.
    fn add_ghost(&mut self, node: usize) {
        let partition = self.cluster.nodes[node].partition;
        let ghost = MemberId {
            node: node as u32 + 1,
            pid: 99,
        };
        if self.cluster.ghosts.is_empty() {
            self.cluster.ghosts.push((partition, ghost));
            self.cluster.change_view(partition);
        }
    }

    fn ask(&mut self, node: usize) {
        if self.cluster.nodes[node].is_stopped {
            return;
        }
        let shared = |number: usize| Bytes::from(format!("shared{number}"));
        let (first, second) = (self.random.below(6), self.random.below(6));
        let operation = match self.random.below(7) {
            0 => Operation::Create {
                path: shared(first),
            },
            1 => Operation::Write {
                path: shared(first),
                offset: second as u64,
                data: Bytes::from(vec![b'a' + first as u8; second]),
                truncate: self.random.chance(30),
            },
            2 => Operation::Delete {
                path: shared(first),
            },
            3 => Operation::Rename {
                from: shared(first),
                to: shared(second),
            },
            _ => self.make_once(),
        };
        self.cluster.ask(node, operation);
    }

    fn make_once(&mut self) -> Operation {
        self.next_name += 1;
        Operation::Mkdir {
            path: Bytes::from(format!("once{}", self.next_name)),
        }
    }

    fn check(&mut self) {
        for (asked, result) in &self.cluster.answers[self.checked_count..] {
            if let (true, Err(error)) = (is_once(asked), result) {
                let is_honest = matches!(error, FsError::Busy | FsError::Access | FsError::Io);
                assert!(is_honest, "{asked:?} was applied twice: {error}");
            }
        }
        self.checked_count = self.cluster.answers.len();
    }

    /// Members that are synced and have seen the same must hold the same.
    fn compare(&mut self, node: usize) {
        if self.cluster.mode(node) != Some(Mode::Synced) {
            return;
        }
        let process = self.cluster.nodes[node].process.as_ref().unwrap();
        let position = process.position;
        let tree = &process.machine.app().store().tree;
        if let Some((root, held)) = self.held.get(&position) {
            let own = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
            let is_equal = *root == tree.root() && own.eq(held.iter());
            assert!(
                is_equal,
                "node {} at {position:?} holds other data",
                node + 1
            );
        } else {
            // Views end; nobody compares with old ones any more than a few changes later.
            let oldest = position.0.saturating_sub(20);
            self.held = self.held.split_off(&(oldest, 0));
            self.held.insert(position, (tree.root(), entries(tree)));
        }
    }

    /// Ends all faults and demands that everybody is synced, equal and writable.
    fn heal(&mut self) {
        let count = self.cluster.nodes.len();
        self.cluster.is_congested = false;
        self.cluster.ghosts.clear();
        if self.profile.is_rough && self.random.chance(30) {
            // Corosync's list gets right again only when somebody leaves.
            self.add_ghost(0);
            self.cluster.ghosts[0].0 = 0;
        }
        for node in 0..count {
            self.cluster.nodes[node].is_stopped = false;
            self.restart(node);
            self.mend_disk(node);
        }
        self.cluster.partition(&vec![0; count]);
        self.settle();
        for node in 0..count {
            let name = format!("peace{node}");
            self.cluster.ask(
                node,
                Operation::Mkdir {
                    path: Bytes::from(name),
                },
            );
        }
        self.settle();
        for node in 0..count {
            let name = format!("peace{node}");
            for other in 0..count {
                let tree = self.cluster.tree(other).unwrap();
                assert!(tree.lookup(name.as_bytes()).is_some(), "{name} on {other}");
            }
        }
        assert!(
            self.cluster.pending.is_empty(),
            "unanswered: {:?}",
            self.cluster.pending
        );
        if !self.profile.is_rough {
            self.check_acknowledged();
        }
    }

    fn check_acknowledged(&self) {
        let tree = self.cluster.tree(0).unwrap();
        for (asked, result) in &self.cluster.answers {
            if let (Operation::Mkdir { path }, Ok(_)) = (&asked.operation, result) {
                assert!(
                    tree.lookup(path).is_some(),
                    "acknowledged {asked:?} is lost"
                );
            }
        }
    }

    fn settle(&mut self) {
        let count = self.cluster.nodes.len();
        for _ in 0..400 {
            self.cluster.now_ms += 500;
            for node in 0..count {
                self.tell_quorum(node);
                self.cluster.tick(node);
            }
            for _ in 0..40 {
                for node in 0..count {
                    self.cluster.order(node);
                    self.deliver(node);
                }
            }
            if self.is_settled() {
                return;
            }
        }
        let modes: Vec<_> = (0..count).map(|node| self.cluster.mode(node)).collect();
        panic!("no progress after the faults ended: {modes:?}");
    }

    fn side_size(&self, side: usize) -> usize {
        let nodes = self.cluster.nodes.iter();
        nodes
            .filter(|node| node.partition == side && node.process.is_some())
            .count()
    }

    fn is_settled(&self) -> bool {
        let is_idle = self.cluster.nodes.iter().all(|node| {
            let Some(process) = &node.process else {
                return true;
            };
            process.inbox.is_empty()
                && process.outgoing.is_empty()
                && process.machine.mode() == Mode::Synced
                && process.machine.status().members.len() == self.side_size(node.partition)
        });
        is_idle && self.cluster.pending.is_empty()
    }
}

/// Whether nobody else ever makes or removes what this makes.
fn is_once(asked: &Asked) -> bool {
    matches!(asked.operation, Operation::Mkdir { .. })
}
