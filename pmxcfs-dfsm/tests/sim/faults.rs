//! What may go wrong in a story.

use super::random::Random;

/// What may happen. Each kind of fault is in some stories and not in others, so that each is met alone and together with
/// others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) partitions: bool,
    /// Messages under way when hosts part reach one side only.
    pub(crate) loss: bool,
    pub(crate) in_steps: bool,
    /// Quorum news come when they come.
    pub(crate) late_quorum: bool,
    pub(crate) crashes: bool,
    pub(crate) emptied_disks: bool,
    pub(crate) corosync_deaths: bool,
    pub(crate) host_crashes: bool,
    pub(crate) stops: bool,
    pub(crate) ghosts: bool,
    pub(crate) congestion: bool,
    pub(crate) interruptions: bool,
    pub(crate) broken_disks: bool,
    pub(crate) slow_disks: bool,
    pub(crate) injections: bool,
    pub(crate) newer_protocol: bool,
    pub(crate) corruption: bool,
    pub(crate) clock_jumps: bool,
    /// Long times pass.
    pub(crate) leaps: bool,
}

impl Faults {
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            partitions: random.chance(80),
            loss: random.chance(40),
            in_steps: random.chance(30),
            late_quorum: random.chance(40),
            crashes: random.chance(60),
            emptied_disks: random.chance(20),
            corosync_deaths: random.chance(40),
            host_crashes: random.chance(40),
            stops: random.chance(30),
            ghosts: random.chance(25),
            congestion: random.chance(40),
            interruptions: random.chance(40),
            broken_disks: random.chance(20),
            slow_disks: random.chance(30),
            injections: random.chance(25),
            newer_protocol: random.chance(5),
            corruption: random.chance(5),
            clock_jumps: random.chance(20),
            leaps: random.chance(40),
        }
    }
}
