//! What happens to which host, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use integration_tests::cluster::Random;

/// What is done to a host, and undone a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    KillDaemon,
    StopDaemon,
    KillCorosync,
    StopCorosync,
    Cut,
    FreezeDaemon,
    FreezeCorosync,
    HoldDatabase,
    HoldSnapshot,
    FillDisk,
    SlowDisk,
    ClockAhead,
    ClockBehind,
    /// Many clients of the web server's group that lie, hang and vanish.
    HostileClients,
    /// Many users of the mount that have no rights.
    MountUsers,
    /// A process that joins the group, sends nonsense and leaves.
    Rogue,
    /// Back with an empty database. Only by itself: what the others lack may be only here.
    LoseDatabase,
}

/// Faults of a node that others can rely on.
const HARMLESS: [Fault; 9] = [
    Fault::FreezeDaemon,
    Fault::HoldDatabase,
    Fault::HoldSnapshot,
    Fault::SlowDisk,
    Fault::ClockAhead,
    Fault::ClockBehind,
    Fault::HostileClients,
    Fault::MountUsers,
    Fault::Rogue,
];

/// Those of the others, besides these.
const HARMFUL: [Fault; 7] = [
    Fault::KillDaemon,
    Fault::StopDaemon,
    Fault::KillCorosync,
    Fault::StopCorosync,
    Fault::Cut,
    Fault::FreezeCorosync,
    Fault::FillDisk,
];

/// A fault of one host: after `before`, for `during`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) before: Duration,
    pub(super) fault: Fault,
    pub(super) during: Duration,
}

/// The faults of each host, one after the other.
#[derive(Debug)]
pub(super) struct Plan(pub(super) BTreeMap<usize, Vec<Step>>);

impl Plan {
    /// An episode in a cluster of this size.
    pub(super) fn draw(random: &mut Random, size: usize) -> Self {
        let anchor = 1 + random.index(size);
        if random.below(5) == 0 {
            let step = Step::draw(random, Fault::LoseDatabase);
            return Self(BTreeMap::from([(anchor, vec![step])]));
        }
        let mut plan = BTreeMap::new();
        for number in 1..=size {
            let count = random.below(4);
            let steps = (0..count).map(|_| {
                let is_harmless = number == anchor || random.below(3) == 0;
                let fault = match is_harmless {
                    true => random.choose(&HARMLESS),
                    false => random.choose(&HARMFUL),
                };
                Step::draw(random, fault)
            });
            plan.insert(number, steps.collect());
        }
        Self(plan)
    }

    /// All faults of all hosts.
    pub(super) fn faults(&self) -> impl Iterator<Item = Fault> {
        self.0.values().flatten().map(|step| step.fault)
    }
}

impl Step {
    fn draw(random: &mut Random, fault: Fault) -> Self {
        // Short ones hit the synchronisation that the fault before has caused.
        let longest = random.choose(&[50, 500, 3000]);
        Self {
            before: Duration::from_millis(random.below(longest)),
            fault,
            during: Duration::from_millis(random.below(longest)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("episode:")?;
        for (number, steps) in &self.0 {
            write!(f, "\n  node{number}")?;
            for Step {
                before,
                fault,
                during,
            } in steps
            {
                write!(f, " {before:?} {fault:?} {during:?}")?;
            }
        }
        Ok(())
    }
}
