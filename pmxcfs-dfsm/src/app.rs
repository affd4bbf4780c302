//! The interface between the protocol and the data that a group replicates.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::Digest;

use crate::core::{Action, LogLevel, MemberId, Now, RequestId};

/// A message of the application, without header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Number of the application's message.
    pub subtype: u16,
    /// The bytes behind the header.
    pub payload: Bytes,
}

/// A delivered message of the application.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Its sender.
    pub sender: MemberId,
    /// Its number among the messages of its sender.
    pub count: u64,
    /// Number of the application's message.
    pub subtype: u16,
    /// Sender's time: the mtime of the entries that it changes.
    pub time_secs: u32,
    /// The bytes behind the header.
    pub payload: &'a Bytes,
    /// The request of this node that the message carries out, if somebody still waits for it.
    pub request: Option<RequestId>,
}

/// The next step of a member after a delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on. The application has answered the caller of the message, if it has one.
    Done,
    /// The message was not applied here, while others may have applied it: leave and synchronise again.
    Leave,
    /// The store has failed, and keeps no changes: stay out.
    Fail,
}

/// The decision that all members make from the same states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Which members are synced, in the order of the states.
    pub synced: Vec<bool>,
    /// Whether this member is to send what others lack.
    pub is_leader: bool,
}

/// Why a synchronisation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// A member sent something that makes no sense or does not fit the own data: leave and try again.
    #[error("{0}")]
    Inconsistent(String),
    /// The own store has failed: stay out.
    #[error("{0}")]
    Store(String),
}

/// The situation in which an application is called, and its way to send and to log.
#[derive(Debug)]
pub struct Context<'a> {
    /// Time of the event.
    pub now: Now,
    /// Whether this side of the cluster is quorate, as far as is known.
    pub is_quorate: bool,
    /// This process.
    pub local: MemberId,
    /// Smallest node id of the last membership.
    pub lowest_node: u32,
    pub(crate) out: &'a mut Vec<Action>,
    pub(crate) outgoing: &'a mut Vec<Outgoing>,
}

impl Context<'_> {
    /// Sends a message of the application. Nobody waits for its result.
    pub fn send(&mut self, message: Outgoing) {
        self.outgoing.push(message);
    }

    /// Adds a log line.
    pub fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.out.push(Action::log(level, text));
    }
}

/// The data that a group replicates, and the callers on this node that wait for them.
///
/// A request is answered by the application itself, exactly once: at once if nothing has to be sent, when its message is
/// [delivered](Self::deliver), or when the core says that it [failed](Self::fail).
///
/// [`deliver`](Self::deliver) and [`exchange`](Self::exchange) must come to the same result on all members: they depend on
/// their arguments and on the replicated data, not on anything local.
pub trait Application {
    /// A wish of a process of this node.
    type Request;

    /// Version in the header of every message of the group.
    const PROTOCOL: u32;
    /// Whether all members must hold the same data. Then requests need quorum and wait until this member is synced, members
    /// whose data differ after an exchange are sent updates, checksums are compared every hour, and messages that corosync
    /// does not take for long are given up. Else data may differ for a while, and messages are kept until corosync takes them.
    const IS_EXACT: bool;

    /// Turns a request into messages, which are sent in order; the delivery of the last one answers the request. None if it
    /// is answered already. Only here may checks depend on local knowledge.
    fn prepare(
        &mut self,
        id: RequestId,
        request: Self::Request,
        context: &mut Context<'_>,
    ) -> Vec<Outgoing>;

    /// Refuses a request that was never prepared.
    fn refuse(_request: Self::Request, _error: FsError) {}

    /// The messages of a prepared request were not sent, or will not be delivered here. Nothing happens if the request is
    /// answered already.
    fn fail(&mut self, _id: RequestId, _error: FsError) {}

    /// Handles a delivered message, own ones included.
    fn deliver(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>) -> Verdict;

    /// A description of the own data, for the exchange that begins.
    ///
    /// # Errors
    /// The own data cannot be announced.
    fn state(&mut self) -> Result<Bytes, SyncError>;

    /// Decides from all states which members are synced, and forgets them unless this member is not. `own` is its position.
    ///
    /// # Errors
    /// A state that makes no sense.
    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        context: &mut Context<'_>,
    ) -> Result<Exchange, SyncError>;

    /// The next update for others, of the data as they were at the exchange. Asked for as corosync takes them, so that not
    /// all of them are in memory at once.
    fn next_update(&mut self) -> Option<Bytes> {
        None
    }

    /// Records one update of the leader.
    ///
    /// # Errors
    /// An update that makes no sense.
    fn update(&mut self, payload: &Bytes) -> Result<(), SyncError>;

    /// Makes the recorded updates the own data, durably.
    ///
    /// # Errors
    /// They do not lead to the leader's data, or the store failed; nothing is changed then.
    fn commit(&mut self, _context: &mut Context<'_>) -> Result<(), SyncError> {
        Ok(())
    }

    /// Forgets states, recorded updates and those still to be sent.
    fn discard(&mut self) {}

    /// Checksum over the replicated data. Asked for in groups whose members hold the same.
    fn checksum(&mut self) -> Digest {
        Digest::default()
    }

    /// The group has other members now, in ascending order.
    fn members_changed(&mut self, _members: &[MemberId]) {}

    /// This member is synced now and was not before.
    fn became_synced(&mut self, _context: &mut Context<'_>) {}

    /// The connection to corosync is lost, and with it all that it told of the group.
    fn disconnected(&mut self) {}

    /// All messages and requests that came in together are handled: the moment for work that is done once for all of them.
    fn flush(&mut self) {}
}
