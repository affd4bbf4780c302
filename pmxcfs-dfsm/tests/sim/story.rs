//! One seeded life of a cluster: faults and requests at random, checks after every step, then peace and progress.
//!
//! The seed decides what kind of life it is (how many nodes, which daemons, which faults), then draws what happens next from
//! what is the case. What was drawn is a list of steps without any randomness, so a story can be cut down.

use bytes::Bytes;
use pmxcfs_dfsm::core::Mode;
use pmxcfs_memdb::Operation;

use super::{
    checks::Checks,
    cluster::Cluster,
    faults::Faults,
    heal::heal,
    random::Random,
    step::{Channel, Injection, Step, written},
};

/// Steps with faults.
const STEP_COUNT: usize = 900;

/// Whose daemons a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// All nodes run the daemon under test.
    Ours,
    /// Some nodes run C daemons.
    Mixed,
}

/// A whole story.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) node_count: usize,
    pub(crate) clock_offsets_secs: Vec<u32>,
    pub(crate) steps: Vec<Step>,
}

/// A story while it is drawn or played.
pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    pub(crate) checks: Checks,
    pub(crate) script: Script,
}

impl Story {
    fn new(node_count: usize, clock_offsets_secs: Vec<u32>, is_traced: bool) -> Self {
        let mut cluster = Cluster::new(node_count, true);
        cluster.network.is_traced = is_traced;
        // Reached in every second story.
        cluster.backlog_limit = 2048;
        for (host, offset) in cluster.network.hosts.iter_mut().zip(&clock_offsets_secs) {
            host.clock_offset_secs = *offset;
        }
        Self {
            cluster,
            checks: Checks::default(),
            script: Script {
                node_count,
                clock_offsets_secs,
                steps: Vec::new(),
            },
        }
    }

    fn act(&mut self, step: Step) {
        self.cluster.network.tell(|| format!("> {step}"));
        self.checks.before(&step, &self.cluster);
        self.script.steps.push(step);
        let step = self.script.steps.last().expect("it was just added");
        self.cluster.apply(step);
        self.checks.look(&mut self.cluster);
    }

    /// A cluster to play a script with.
    pub(crate) fn begin(script: &Script, is_traced: bool) -> Self {
        let offsets = script.clock_offsets_secs.clone();
        Self::new(script.node_count, offsets, is_traced)
    }

    /// Plays a script to the good end, or panics.
    pub(crate) fn go_on(&mut self, script: &Script) {
        for step in &script.steps {
            self.act(step.clone());
        }
        heal(&mut self.cluster, &mut self.checks);
    }
}

/// Draws a story.
pub(crate) struct Narrator<'a> {
    pub(crate) story: &'a mut Story,
    random: Random,
    faults: Faults,
    next_name: usize,
    next_value: u64,
}

/// The beginning of a seed's story, and who continues it.
pub(crate) fn begin(seed: u64, cast: Cast, is_traced: bool) -> (Story, Random) {
    let mut random = Random::new(seed);
    let count = 2 + random.below(4);
    let offsets = (0..count).map(|_| random.below(4000) as u32).collect();
    let mut story = Story::new(count, offsets, is_traced);
    if cast == Cast::Mixed {
        let ours = random.below(count);
        let mut has_peer = false;
        for node in (0..count).filter(|node| *node != ours) {
            let is_ours = random.chance(50);
            has_peer |= !is_ours;
            story.act(Step::Install { node, is_ours });
        }
        if !has_peer {
            let node = (ours + 1) % count;
            story.act(Step::Install {
                node,
                is_ours: false,
            });
        }
    }
    (story, random)
}

/// Tells a seed's story to its end; panics with what went wrong.
pub(crate) fn tell(story: &mut Story, random: Random) {
    let mut narrator = Narrator::new(story, random);
    narrator.narrate();
    heal(&mut story.cluster, &mut story.checks);
}

impl<'a> Narrator<'a> {
    fn new(story: &'a mut Story, mut random: Random) -> Self {
        let faults = Faults::draw(&mut random);
        Self {
            story,
            random,
            faults,
            next_name: 0,
            next_value: 0,
        }
    }

    fn count(&self) -> usize {
        self.story.cluster.count()
    }

    fn any_node(&mut self) -> usize {
        let count = self.count();
        self.random.below(count)
    }

    fn mode(&self, node: usize) -> Option<Mode> {
        self.story.cluster.mode(node)
    }

    fn act(&mut self, step: Step) {
        self.story.act(step);
    }

    fn narrate(&mut self) {
        for node in 0..self.count() {
            self.act(Step::Start {
                node,
                is_empty: false,
            });
        }
        if self.random.chance(70) {
            self.rest(60);
            self.furnish();
        }
        for _ in 0..STEP_COUNT {
            self.step();
        }
    }

    /// Directories that some requests need.
    fn furnish(&mut self) {
        let node = self.any_node();
        for path in ["priv", "priv/lock", "nodes", "nodes/n1", "nodes/n1/lxc"] {
            let path = Bytes::from_static(path.as_bytes());
            let operation = Operation::Mkdir { path };
            self.act(Step::Ask { node, operation });
        }
        self.rest(10);
    }

    fn step(&mut self) {
        let node = self.any_node();
        match self.random.below(1000) {
            0..450 => {
                self.deliver(node);
                if self.mode(node) == Some(Mode::Update) && self.random.chance(40) {
                    self.disturb_update(node);
                }
            }
            450..650 => self.order(node),
            650..740 => self.ask(node),
            740..780 => self.ask_status(node),
            780..920 => {
                let ms = self.random.below(100) as u64;
                self.act(Step::Later(ms));
                self.act(Step::Tick(node));
            }
            920..935 => self.pass_time(),
            935..939 => self.calm_down(),
            939..945 => self.fall_behind(node),
            945..948 => self.meet_again(node),
            _ => self.fault(node),
        }
    }

    /// Most of what is broken is mended, and the cluster gets some time.
    fn calm_down(&mut self) {
        for node in 0..self.count() {
            self.act(Step::Continue(node));
            self.act(Step::Congest {
                node,
                capacity: None,
            });
            self.act(Step::MendDisk(node));
            self.revive(node);
        }
        let sides = vec![0; self.count()];
        self.regroup(sides, 0);
        self.rest(80);
    }

    /// A node misses a write, comes back, and is disturbed while it is brought up to date.
    fn fall_behind(&mut self, node: usize) {
        if self.faults.crashes {
            self.act(Step::Crash(node));
        } else {
            self.act(Step::KillCorosync { node, lost: 0 });
        }
        self.rest(3);
        for _ in 0..3 {
            let operation = self.make_once();
            let node = self.any_node();
            self.act(Step::Ask { node, operation });
        }
        self.rest(3);
        self.revive(node);
        for _ in 0..300 {
            if self.random.chance(10) {
                let ms = self.random.below(300) as u64;
                self.act(Step::Later(ms));
                self.act(Step::Tick(node));
            }
            let next = self.any_node();
            self.order(next);
            self.deliver(next);
            if self.mode(node) == Some(Mode::Update) {
                return self.disturb_update(node);
            }
        }
    }

    /// A node is cut off and misses writes. When the hosts find each other, the daemons of the others are away for a moment, and the
    /// node is to write.
    fn meet_again(&mut self, node: usize) {
        if !self.faults.crashes {
            return;
        }
        let sides = (0..self.count()).map(|host| usize::from(host == node));
        self.regroup(sides.collect(), 0);
        self.rest(3);
        let others: Vec<usize> = (0..self.count()).filter(|host| *host != node).collect();
        for other in &others {
            let operation = self.make_once();
            self.act(Step::Ask {
                node: *other,
                operation,
            });
        }
        self.rest(3);
        for other in &others {
            self.act(Step::Crash(*other));
        }
        self.regroup(vec![0; self.count()], 0);
        for _ in 0..self.random.below(10) {
            self.act(Step::Quorum(node));
            self.order(node);
            self.deliver(node);
        }
        let operation = self.make_once();
        self.act(Step::Ask { node, operation });
        self.rest(3);
        for other in others {
            self.revive(other);
        }
        self.rest(10);
    }

    /// Peace for some rounds, in which most of what is under way arrives.
    fn rest(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.act(Step::Later(100));
            for node in 0..self.count() {
                self.act(Step::Quorum(node));
                self.act(Step::Tick(node));
                for _ in 0..4 {
                    self.order(node);
                    self.deliver(node);
                }
            }
        }
    }

    fn channel(&mut self) -> Channel {
        if self.random.chance(75) {
            Channel::Database
        } else {
            Channel::Status
        }
    }

    fn order(&mut self, node: usize) {
        let channel = self.channel();
        self.act(Step::Order { node, channel });
    }

    fn deliver(&mut self, node: usize) {
        if !self.faults.late_quorum || self.random.chance(50) {
            self.act(Step::Quorum(node));
        }
        if self.random.chance(20) {
            self.act(Step::GatherNext(node));
        }
        let channel = self.channel();
        self.act(Step::Deliver {
            node,
            channel,
            count: 1,
        });
    }

    fn pass_time(&mut self) {
        let limit_ms = if self.faults.leaps { 12_000 } else { 500 };
        let ms = self.random.below(limit_ms) as u64;
        self.act(Step::Later(ms));
        for node in 0..self.count() {
            self.act(Step::Tick(node));
        }
    }

    /// A member that is not synced asks for something, and so do others; then something happens to the group.
    fn disturb_update(&mut self, node: usize) {
        let operation = self.make_once();
        self.act(Step::Ask { node, operation });
        let other = self.any_node();
        self.ask(other);
        for _ in 0..1 + self.random.below(8) {
            let next = if self.random.chance(60) {
                node
            } else {
                self.any_node()
            };
            self.order(next);
            self.deliver(next);
        }
        if self.mode(node) == Some(Mode::Update) && self.random.chance(60) {
            let other = self.any_node();
            self.fault(other);
        }
    }

    fn fault(&mut self, node: usize) {
        let faults = self.faults;
        let lost = if faults.loss { self.random.below(4) } else { 0 };
        match self.random.below(20) {
            0..3 if faults.partitions => self.part(lost),
            3 if faults.partitions => {
                let sides = vec![0; self.count()];
                self.regroup(sides, lost);
            }
            4 if faults.crashes => self.act(Step::Crash(node)),
            5 if faults.corosync_deaths => self.act(Step::KillCorosync { node, lost }),
            6 if faults.host_crashes => self.act(Step::CrashHost { node, lost }),
            7..10 => self.revive(node),
            10 if faults.stops => self.toggle_stop(node),
            11 if faults.ghosts => {
                let channel = self.channel();
                self.act(Step::Ghost { node, channel });
            }
            12 if faults.congestion => {
                let capacity = [None, Some(0), Some(self.random.below(8))];
                let capacity = capacity[self.random.below(3)];
                self.act(Step::Congest { node, capacity });
            }
            13 if faults.interruptions => self.act(Step::InterruptNext(node)),
            14 if faults.broken_disks => {
                let after = self.random.below(4) as u32;
                self.act(Step::BreakDisk { node, after });
            }
            15 => self.act(Step::MendDisk(node)),
            16 if faults.slow_disks => {
                let ms = self.random.below(6000) as u64;
                self.act(Step::SlowDisk { node, ms });
            }
            17 if faults.injections => self.inject(node),
            19 if faults.clock_jumps => {
                let offset_secs = self.random.below(4000) as u32;
                self.act(Step::Clock { node, offset_secs });
            }
            18 if faults.corruption => {
                self.next_name += 1;
                let path = format!("odd{}", self.next_name);
                self.act(Step::Corrupt { node, path });
            }
            _ => self.act(Step::Quorum(node)),
        }
    }

    fn part(&mut self, lost: usize) {
        let side_count = 1 + self.random.below(3);
        let sides = (0..self.count()).map(|_| self.random.below(side_count));
        let sides = sides.collect();
        self.regroup(sides, lost);
    }

    fn regroup(&mut self, sides: Vec<usize>, lost: usize) {
        let in_steps = self.faults.in_steps && self.random.chance(50);
        self.act(Step::Partition {
            sides,
            lost,
            in_steps,
        });
        if !self.faults.late_quorum {
            for node in 0..self.count() {
                self.act(Step::Quorum(node));
            }
        }
    }

    /// What is down comes back; a C daemon that has given up is restarted.
    fn revive(&mut self, node: usize) {
        self.act(Step::StartCorosync(node));
        let is_stuck = matches!(self.mode(node), Some(Mode::Error | Mode::VersionError));
        if is_stuck && self.random.chance(70) {
            self.act(Step::Crash(node));
        }
        let is_empty = self.faults.emptied_disks && self.random.chance(30);
        self.act(Step::Start { node, is_empty });
    }

    fn toggle_stop(&mut self, node: usize) {
        if self.story.cluster.network.hosts[node].is_stopped {
            self.act(Step::Continue(node));
        } else {
            self.act(Step::Stop(node));
        }
    }

    fn inject(&mut self, node: usize) {
        let what = match self.random.below(7) {
            0 => Injection::Short,
            1 => Injection::Lengths,
            2 => Injection::Subtype,
            3 => Injection::SyncStart,
            4 => Injection::StaleState,
            5 => Injection::StaleComplete,
            _ if self.faults.newer_protocol && self.random.chance(20) => Injection::NewerProtocol,
            _ => Injection::OlderProtocol,
        };
        self.act(Step::Inject { node, what });
    }

    fn ask(&mut self, node: usize) {
        let operation = self.operation();
        self.act(Step::Ask { node, operation });
    }

    fn operation(&mut self) -> Operation {
        let (first, second) = (self.random.below(6), self.random.below(6));
        let file = |number: usize| Bytes::from(format!("file{number}"));
        let lock = Bytes::from(format!("priv/lock/{}", first % 2));
        match self.random.below(13) {
            0..2 => Operation::Create { path: file(first) },
            2..4 => {
                let length = match second {
                    0 => 0,
                    5 => 700 + first * 10,
                    second => second * 3,
                };
                // C daemons die of a file with a size and no data.
                let may_be_hole = self.story.cluster.is_ours.iter().all(|is_ours| *is_ours);
                let offset = match length {
                    0 if !may_be_hole => 0,
                    _ => self.random.below(5) as u64,
                };
                Operation::Write {
                    path: file(first),
                    offset,
                    data: written(length),
                    truncate: length == 0 || self.random.chance(30),
                }
            }
            4 => Operation::Delete { path: file(first) },
            5 => Operation::Rename {
                from: file(first),
                to: file(second),
            },
            6 => Operation::Mkdir { path: lock },
            7 if second < 4 => Operation::SetMtime {
                path: lock,
                mtime: if second < 2 { 0 } else { u32::MAX },
            },
            7 => Operation::Delete { path: lock },
            8 => Operation::Create {
                path: Bytes::from(format!("nodes/n1/lxc/{}.conf", 100 + first)),
            },
            _ => self.make_once(),
        }
    }

    fn make_once(&mut self) -> Operation {
        self.next_name += 1;
        Operation::Mkdir {
            path: Bytes::from(format!("once{}", self.next_name)),
        }
    }

    fn ask_status(&mut self, node: usize) {
        self.next_value += 1;
        let value = self.next_value;
        let step = match self.random.below(4) {
            0 => Step::Log {
                node,
                text: format!("entry {value}"),
            },
            1 => Step::Set {
                node,
                key: format!("key{}", value % 3),
                value: String::new(),
            },
            _ => Step::Set {
                node,
                key: format!("key{}", value % 3),
                value: value.to_string(),
            },
        };
        self.act(step);
    }
}
