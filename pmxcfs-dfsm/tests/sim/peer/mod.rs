//! A model of the C daemon's part in a group, with its defects.
//!
//! Written from the observed behaviour of C daemons, for the cases that matter to whoever shares a group with them. What
//! is different from the machine under test, and stays so on purpose:
//!
//! - in UPDATE mode messages of members that are not synced go to the queue of those that wait for the end of the
//!   synchronisation, and are applied behind all others: other members apply them where they came (defect 1);
//! - that queue survives when somebody leaves, and is sent again when somebody joins, though others have applied what is
//!   in it (defect 2);
//! - nothing is limited in time, and an empty state counts as none (defects 3, 4);
//! - a start of a synchronisation in UPDATE mode, and every malformed message, make it leave (defects 6, 10);
//! - a rejoin takes 6 to 9 seconds, and after a failure of the store there is none (defects 7, 8);
//! - while corosync asks to try again, everything else waits (defect 11);
//! - a message that was interrupted is not sent again;
//! - "busy" and "not permitted" are answered for operations that others have applied (defect 12).

mod database;
mod machine;
mod messages;
mod status;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    core::{MemberId, Now},
    wire::MessageKind,
};
use pmxcfs_memdb::Digest;

pub(crate) use database::CDatabase;
pub(crate) use machine::Peer;
pub(crate) use status::CStatus;

/// What a C daemon's group replicates.
pub(crate) trait PeerApp {
    type Request;

    const PROTOCOL: u32;
    const IS_VERIFIED: bool;
    /// Requests are refused without quorum.
    const NEEDS_QUORUM: bool;

    /// The messages for a request, and whether the last one is waited for.
    fn messages(&mut self, request: Self::Request) -> (Vec<(u16, Bytes)>, bool);

    fn deliver(&mut self, message: &AppMessage<'_>, outgoing: &mut Vec<(u16, Bytes)>) -> Verdict;

    fn state(&mut self) -> Bytes;

    /// Flags of the members that are synced, and what to send as the leader.
    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        outgoing: &mut Vec<(u16, Bytes)>,
    ) -> Option<Decision>;

    /// Records an update; false makes it leave.
    fn update(&mut self, payload: &Bytes) -> bool;

    /// Takes the updates over; false makes it leave, and the store then counts as failed.
    fn commit(&mut self, now_secs: u64) -> bool;

    fn discard(&mut self);

    fn checksum(&mut self) -> Digest;

    fn members_changed(&mut self, members: &[MemberId]);

    fn became_synced(&mut self, outgoing: &mut Vec<(u16, Bytes)>);

    /// Counts changes of the data.
    fn version(&self) -> u64;

    fn state_digest(&self) -> u64;
}

/// A message for the application.
#[derive(Debug)]
pub(crate) struct AppMessage<'a> {
    pub(crate) sender: MemberId,
    pub(crate) subtype: u16,
    pub(crate) time_secs: u32,
    pub(crate) payload: &'a Bytes,
    pub(crate) now: Now,
    pub(crate) local: MemberId,
    pub(crate) is_lowest: bool,
    pub(crate) is_quorate: bool,
}

/// What the application did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done(Result<u32, FsError>),
    Leave,
    /// The store has failed.
    Fail(Result<u32, FsError>),
}

#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) synced: Vec<bool>,
    pub(crate) messages: Vec<(MessageKind, Bytes)>,
}
