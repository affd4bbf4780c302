//! What a group replicates, as the protocol sees it.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::Digest;

use crate::core::{Actions, LogLevel, MemberId, Now, RequestId};
use crate::wire::MessageKind;

/// A message of the application, without header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Number of the application's message.
    pub subtype: u16,
    /// What follows the header.
    pub payload: Bytes,
}

/// What to do for a local request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// Nothing needs to be sent.
    Done(u32),
    /// Send these in order. The result of the last one answers the request.
    Send {
        /// At least one message.
        messages: Vec<Outgoing>,
        /// What a success returns instead of the result of the last message.
        reply: Option<u32>,
    },
    /// Send these in order and answer at once: nobody learns what became of them.
    Announce(Vec<Outgoing>),
}

/// A delivered message of the application.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Who sent it.
    pub sender: MemberId,
    /// Its number among the messages of its sender.
    pub count: u64,
    /// Number of the application's message.
    pub subtype: u16,
    /// Sender's time: the mtime of what changes.
    pub time_secs: u32,
    /// What followed the header.
    pub payload: &'a Bytes,
    /// The request of this node that the message carries out, if somebody here still waits for it.
    pub request: Option<RequestId>,
}

/// What became of a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied, with this result. An error that all members reach alike is a result too.
    Applied(Result<u32, FsError>),
    /// It was not applied, here or by any other member.
    Refused(FsError),
    /// It was not applied here, while others may have applied it: leave and synchronise again.
    Leave,
    /// It was applied in memory or not at all, and the store has failed: stay out.
    Fail,
}

/// What all members decide from the same states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Which members are synced, in the order of the states.
    pub synced: Vec<bool>,
    /// What this member must send as the leader; empty on others.
    pub messages: Vec<(MessageKind, Bytes)>,
}

/// Why a synchronisation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// What a member sent makes no sense, or does not fit what this member holds: leave and try again.
    #[error("{0}")]
    Inconsistent(String),
    /// The own store has failed: stay out.
    #[error("{0}")]
    Store(String),
}

/// What an application has at hand while it handles something.
#[derive(Debug)]
pub struct Context<'a, N> {
    /// Time of the event.
    pub now: Now,
    /// Whether this side of the cluster is quorate, as far as is known.
    pub is_quorate: bool,
    /// This process.
    pub local: MemberId,
    /// Smallest node id of the last membership.
    pub lowest_node: u32,
    pub(crate) out: &'a mut Actions<N>,
    pub(crate) outgoing: &'a mut Vec<Outgoing>,
}

impl<N> Context<'_, N> {
    /// Sends a message of the application. Nobody waits for its result.
    pub fn send(&mut self, message: Outgoing) {
        self.outgoing.push(message);
    }

    /// Tells the rest of the daemon something.
    pub fn notice(&mut self, notice: N) {
        self.out.push(crate::core::Action::Notice(notice));
    }

    /// Adds a log line.
    pub fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.out.log(level, text);
    }
}

/// What a group replicates.
///
/// [`deliver`](Self::deliver) and [`exchange`](Self::exchange) must come to the same result on all members: they depend on
/// their arguments and on the replicated data, not on anything local.
pub trait Application {
    /// What processes of this node ask for.
    type Request;
    /// What the rest of the daemon must be told.
    type Notice;

    /// Version in the header of every message of the group.
    const PROTOCOL: u32;
    /// Whether requests are refused with `Access` while there is no quorum.
    const NEEDS_QUORUM: bool;
    /// Whether members compare checksums every hour.
    const IS_VERIFIED: bool;
    /// Whether members may hold different data after an exchange, and are then sent updates. A member that is being
    /// updated sends no requests: they wait until it is synced.
    const HAS_UPDATES: bool = true;
    /// Whether messages are kept when corosync takes none for long. Else they are given up, and who waits for them is told.
    const KEEPS_UNSENT: bool = false;

    /// Turns a request into messages. What may depend on local knowledge is checked here.
    ///
    /// # Errors
    /// The reason why nothing is sent.
    fn prepare(
        &mut self,
        request: Self::Request,
        context: &mut Context<'_, Self::Notice>,
    ) -> Result<Prepared, FsError>;

    /// Handles a delivered message, own ones included.
    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_, Self::Notice>,
    ) -> Outcome;

    /// What this member holds, for the exchange that begins.
    ///
    /// # Errors
    /// The own data cannot be announced.
    fn state(&mut self) -> Result<Bytes, SyncError>;

    /// Decides from all states who is synced. `own` is the position of this member.
    ///
    /// # Errors
    /// A state that makes no sense.
    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        context: &mut Context<'_, Self::Notice>,
    ) -> Result<Exchange, SyncError>;

    /// Records one update of the leader.
    ///
    /// # Errors
    /// An update that makes no sense.
    fn update(&mut self, payload: &Bytes) -> Result<(), SyncError>;

    /// Makes the recorded updates the own data, durably.
    ///
    /// # Errors
    /// They do not lead to the leader's data, or the store failed; nothing is changed then.
    fn commit(&mut self, context: &mut Context<'_, Self::Notice>) -> Result<(), SyncError>;

    /// Forgets states and recorded updates.
    fn discard(&mut self);

    /// Checksum over the replicated data. Asked for in groups that are verified.
    fn checksum(&mut self) -> Digest;

    /// The group has other members now, in ascending order.
    fn members_changed(&mut self, members: &[MemberId], context: &mut Context<'_, Self::Notice>);

    /// This member is synced now and was not before.
    fn became_synced(&mut self, context: &mut Context<'_, Self::Notice>);
}
