//! Looks over an application's shoulder.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::{
    app::{Application, Context, Delivery, Exchange, Outgoing, SyncError, Verdict},
    core::{MemberId, RequestId},
    database::Database,
    status::{StatusGroup, StatusRequest},
};
use pmxcfs_memdb::{Digest, Operation};

use super::{disk::Disk, soft::Soft};

/// What a daemon did with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// A message was handed to the application.
    Delivered {
        sender: MemberId,
        count: u64,
        /// The data changed.
        is_change: bool,
    },
    /// It was made known what is held.
    Announced { state: u64 },
    /// All states were there: who is synced, and whether this member sends updates.
    Exchanged { synced: Vec<bool>, is_leader: bool },
    /// The updates of a leader were taken over.
    Committed { state: u64 },
    /// A C daemon did what others do not do: its data may be others from now on.
    Strayed { why: &'static str },
}

/// Data whose changes can be counted, and that processes of the simulation want changed.
pub(crate) trait Counted: Application {
    /// What a process wants.
    type Wanted;
    fn request(&self, id: RequestId, wanted: Self::Wanted) -> Self::Request;
    /// What was answered since the last look.
    fn answers(&self) -> Vec<(RequestId, Result<u32, FsError>)>;
    fn version(&self) -> u64;
    /// What an announcement of the present data would be.
    fn state_digest(&self) -> u64;
}

impl Counted for Database<Disk> {
    type Wanted = Operation;

    fn request(&self, id: RequestId, operation: Operation) -> Self::Request {
        self.store().answers.client(id, operation)
    }

    fn answers(&self) -> Vec<(RequestId, Result<u32, FsError>)> {
        self.store().answers.take()
    }

    fn version(&self) -> u64 {
        self.store().tree.root().version
    }

    fn state_digest(&self) -> u64 {
        digest(self.store().tree.index().bytes())
    }
}

impl Counted for StatusGroup<Soft> {
    type Wanted = StatusRequest;

    fn request(&self, _id: RequestId, request: StatusRequest) -> Self::Request {
        request
    }

    /// Nobody waits.
    fn answers(&self) -> Vec<(RequestId, Result<u32, FsError>)> {
        Vec::new()
    }

    fn version(&self) -> u64 {
        0
    }

    fn state_digest(&self) -> u64 {
        0
    }
}

/// A name for bytes.
pub(crate) fn digest(bytes: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// An application and what was seen of it.
#[derive(Debug)]
pub(crate) struct Probe<A> {
    pub(crate) app: A,
    pub(crate) seen: Vec<Observation>,
}

impl<A> Probe<A> {
    pub(crate) const fn new(app: A) -> Self {
        Self {
            app,
            seen: Vec::new(),
        }
    }
}

impl<A: Application + Counted> Application for Probe<A> {
    type Request = A::Request;

    const PROTOCOL: u32 = A::PROTOCOL;
    const IS_EXACT: bool = A::IS_EXACT;

    fn prepare(
        &mut self,
        id: RequestId,
        request: Self::Request,
        context: &mut Context<'_>,
    ) -> Vec<Outgoing> {
        self.app.prepare(id, request, context)
    }

    fn refuse(request: Self::Request, error: FsError) {
        A::refuse(request, error);
    }

    fn fail(&mut self, id: RequestId, error: FsError) {
        self.app.fail(id, error);
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>) -> Verdict {
        let before = self.app.version();
        let outcome = self.app.deliver(delivery, context);
        self.seen.push(Observation::Delivered {
            sender: delivery.sender,
            count: delivery.count,
            is_change: self.app.version() != before,
        });
        outcome
    }

    fn state(&mut self) -> Result<Bytes, SyncError> {
        let state = self.app.state()?;
        let digest = digest(&state);
        self.seen.push(Observation::Announced { state: digest });
        Ok(state)
    }

    fn exchange(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
        context: &mut Context<'_>,
    ) -> Result<Exchange, SyncError> {
        let exchange = self.app.exchange(states, own, context)?;
        let is_leader = exchange.is_leader;
        self.seen.push(Observation::Exchanged {
            synced: exchange.synced.clone(),
            is_leader,
        });
        Ok(exchange)
    }

    fn next_update(&mut self) -> Option<Bytes> {
        self.app.next_update()
    }

    fn update(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        self.app.update(payload)
    }

    fn commit(&mut self, context: &mut Context<'_>) -> Result<(), SyncError> {
        self.app.commit(context)?;
        let state = self.app.state_digest();
        self.seen.push(Observation::Committed { state });
        Ok(())
    }

    fn discard(&mut self) {
        self.app.discard();
    }

    fn checksum(&mut self) -> Digest {
        self.app.checksum()
    }

    fn members_changed(&mut self, members: &[MemberId]) {
        self.app.members_changed(members);
    }

    fn became_synced(&mut self, context: &mut Context<'_>) {
        self.app.became_synced(context);
    }

    fn disconnected(&mut self) {
        self.app.disconnected();
    }

    fn flush(&mut self) {
        self.app.flush();
    }
}
