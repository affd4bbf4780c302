//! The modes of a member, and which may follow which.

use std::collections::BTreeMap;

use bytes::Bytes;
use strum::{IntoStaticStr, VariantNames};

use super::{LogLevel, MemberId, queue::Queued};

/// The mode of a member. The numbers are those of the C daemon; from 128 on a member applies nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
#[repr(u8)]
pub enum Mode {
    /// No membership yet.
    Start = 0,
    /// Membership changed, states are being collected.
    StartSync = 1,
    /// Data equal to the leader's.
    Synced = 2,
    /// Data differ, waiting for the leader's updates.
    Update = 3,
    /// Leaving, will join again.
    Leave = 253,
    /// Saw a newer protocol, stays out until restarted.
    VersionError = 254,
    /// Local data cannot be trusted, stays out.
    Error = 255,
}

impl Mode {
    /// Whether messages are ignored and nothing is applied.
    pub fn is_error(self) -> bool {
        self >= Self::Leave
    }

    /// Whether this mode may follow another: an error mode hides no worse one.
    pub fn may_follow(self, former: Self) -> bool {
        !self.is_error() || !former.is_error() || self >= former
    }

    /// The line for the log when it is entered.
    pub(super) const fn announcement(self) -> (LogLevel, &'static str) {
        match self {
            Self::Start => (LogLevel::Info, "start cluster connection"),
            Self::StartSync => (LogLevel::Info, "starting data syncronisation"),
            Self::Synced => (LogLevel::Info, "all data is up to date"),
            Self::Update => (LogLevel::Info, "waiting for updates from leader"),
            Self::Leave => (LogLevel::Error, "leaving CPG group"),
            Self::VersionError => (
                LogLevel::Error,
                "detected newer protocol - please update this node",
            ),
            Self::Error => (
                LogLevel::Error,
                "serious internal error - stop cluster connection",
            ),
        }
    }
}

/// What a member sends for an exchange that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The message that has all members announce their states.
    Start,
    /// The own state.
    State,
}

/// A mode with the data that exist only in it.
#[derive(Debug)]
pub(super) enum State {
    Start,
    StartSync {
        states: BTreeMap<MemberId, Bytes>,
        /// Sent when everything that came in together is handled: there may be a further membership or start among it, which
        /// makes it useless.
        due: Option<Due>,
        /// The own state was sent or is due.
        is_announced: bool,
        wait: Wait,
    },
    Synced {
        since_ms: u64,
    },
    Update {
        /// The messages that the synced members have applied since the end of the exchange, in their order ("queue 2").
        replay: Vec<Queued>,
        wait: Wait,
    },
    Leave,
    VersionError,
    Error,
}

/// How long others have been silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// Last time something came that this member waits for.
    pub(super) progress_ms: u64,
    /// Whether the silence was logged.
    pub(super) is_told: bool,
}

impl Wait {
    pub(super) const fn since(progress_ms: u64) -> Self {
        Self {
            progress_ms,
            is_told: false,
        }
    }
}

impl State {
    pub(super) const fn mode(&self) -> Mode {
        match self {
            Self::Start => Mode::Start,
            Self::StartSync { .. } => Mode::StartSync,
            Self::Synced { .. } => Mode::Synced,
            Self::Update { .. } => Mode::Update,
            Self::Leave => Mode::Leave,
            Self::VersionError => Mode::VersionError,
            Self::Error => Mode::Error,
        }
    }
}
