//! Events, which go into the core, and actions, which come out.

use std::sync::Arc;

use bytes::Bytes;

/// A process in a group, as CPG reports it. Ordered by node id, then process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Node id of corosync.
    pub node: u32,
    /// Process id.
    pub pid: u32,
}

impl std::fmt::Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.node, self.pid)
    }
}

/// Number by which core and application know a request. Drawn by the core, unique in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The time at which an event is handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a monotonic clock: for waits.
    pub monotonic_ms: u64,
    /// Wall clock, for messages and epochs.
    pub wall_secs: u32,
}

/// The side of the cluster that this node is on, as corosync reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumView {
    /// Whether this side may decide.
    pub is_quorate: bool,
    /// The nodes of this side, whether or not their daemons run. Empty if nobody has said so.
    pub nodes: Arc<[u32]>,
    /// How often the quorum was lost so far: it may be back before anybody looks.
    pub loss_count: u64,
}

impl QuorumView {
    /// The view after the next report of corosync.
    #[must_use]
    pub fn followed_by(&self, is_quorate: bool, nodes: impl IntoIterator<Item = u32>) -> Self {
        let is_loss = self.is_quorate && !is_quorate;
        Self {
            is_quorate,
            nodes: nodes.into_iter().collect(),
            loss_count: self.loss_count + u64::from(is_loss),
        }
    }
}

/// Something that happens to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection is open, and the group is being joined on it.
    Connected {
        /// Node id as the connection tells it, and own process id.
        local: MemberId,
    },
    /// No connection could be had, or the group not be joined.
    ConnectFailed,
    /// The connection is gone, with everything on its way.
    Disconnected,
    /// A membership change of the group.
    Membership {
        /// Everybody in the group.
        members: Vec<MemberId>,
        /// Whether a process joined with this change.
        has_joined: bool,
    },
    /// A message of the group, own ones included.
    Delivered {
        /// Its sender.
        sender: MemberId,
        /// The whole message.
        message: Bytes,
    },
    /// Corosync asked to try again: all messages that were not handed over, in the order in which they were to be sent.
    SendBlocked {
        /// The messages of the actions not carried out.
        unsent: Vec<Bytes>,
    },
    /// Corosync refused messages for another reason; they are not on their way. A large message that a membership change
    /// interrupted is to be given back as [`Event::SendBlocked`]: it can be sent again.
    SendFailed {
        /// The messages of the actions not carried out.
        unsent: Vec<Bytes>,
    },
    /// The quorum or the nodes of this side changed.
    Quorum(QuorumView),
    /// The store works again: a member that had given up may join again.
    Mended,
    /// Time has passed. At least one per second; one every 5 ms while messages wait to be sent again.
    Tick,
    /// The group is given up: the last event.
    Stop,
}

/// Something to do for a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send to the group, in agreed order.
    Multicast(Bytes),
    /// Leave the group and close the connection.
    Leave,
    /// Open a new connection and join, after this time.
    Join {
        /// Milliseconds from now.
        delay_ms: u64,
    },
    /// A line for the log.
    Log {
        /// How bad it is.
        level: LogLevel,
        /// The line.
        text: String,
    },
}

/// Weight of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// Degraded, recovers alone.
    Warn,
    /// A change of state.
    Info,
}

impl Action {
    /// A line for the log.
    pub(crate) fn log(level: LogLevel, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Log { level, text }
    }
}
