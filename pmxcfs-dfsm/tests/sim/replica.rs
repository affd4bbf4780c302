//! A daemon's part in one group: the machine under test, or the model of a C daemon.

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::core::{Action, Event, Machine, MemberId, Mode, Now, RequestId};

use super::{
    peer::{Peer, PeerApp},
    probe::{Counted, Observation, Probe},
};

/// What is to be done for a daemon.
#[derive(Debug)]
pub(crate) enum Act {
    Send(Bytes),
    Leave,
    Join {
        delay_ms: u64,
    },
    Answer {
        id: RequestId,
        result: Result<u32, FsError>,
    },
    Tell(String),
}

/// One of the two kinds.
#[expect(clippy::large_enum_variant, reason = "a cluster has few of them")]
pub(crate) enum Replica<A: Counted, P> {
    Ours(Machine<Probe<A>>),
    Peer(Peer<P>),
}

impl<A, P> Replica<A, P>
where
    A: Counted,
    P: PeerApp<Request = A::Wanted>,
{
    /// With the last event it has handled everything that came in together.
    pub(crate) fn handle(&mut self, now: Now, event: Event, is_last: bool) -> Vec<Act> {
        match self {
            Self::Ours(machine) => {
                let mut actions = machine.handle(now, event);
                if is_last {
                    actions.extend(machine.settle());
                    machine.flush();
                }
                acts(machine, actions)
            }
            Self::Peer(peer) => peer.handle(now, event),
        }
    }

    pub(crate) fn ask(&mut self, now: Now, id: RequestId, wanted: A::Wanted) -> Vec<Act> {
        match self {
            Self::Ours(machine) => {
                let request = machine.app().app.request(id, wanted);
                let mut actions = machine.request(now, request);
                actions.extend(machine.settle());
                machine.flush();
                acts(machine, actions)
            }
            Self::Peer(peer) => peer.ask(now, id, wanted),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self {
            Self::Ours(machine) => machine.mode(),
            Self::Peer(peer) => peer.mode(),
        }
    }

    pub(crate) fn members(&self) -> Vec<MemberId> {
        match self {
            Self::Ours(machine) => machine.status().members,
            Self::Peer(peer) => peer.members(),
        }
    }

    /// Messages that wait for the end of a synchronisation.
    pub(crate) fn queued_count(&self) -> usize {
        match self {
            Self::Ours(machine) => machine.status().queued_count,
            Self::Peer(peer) => peer.queued_count(),
        }
    }

    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// A C daemon waits in a call of corosync and handles nothing.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self, Self::Peer(peer) if peer.is_stuck())
    }

    /// What it did with its data since the last look.
    pub(crate) fn observations(&mut self) -> Vec<Observation> {
        match self {
            Self::Ours(machine) => std::mem::take(&mut machine.app_mut().seen),
            Self::Peer(peer) => std::mem::take(&mut peer.seen),
        }
    }
}

/// What a machine wants done, and the answers that it gave.
fn acts<A: Counted>(machine: &mut Machine<Probe<A>>, actions: Vec<Action>) -> Vec<Act> {
    let answers = machine.app().app.answers().into_iter();
    let answers = answers.map(|(id, result)| Act::Answer { id, result });
    actions.into_iter().map(act).chain(answers).collect()
}

fn act(action: Action) -> Act {
    match action {
        Action::Multicast(message) => Act::Send(message),
        Action::Leave => Act::Leave,
        Action::Join { delay_ms } => Act::Join { delay_ms },
        Action::Log { text, .. } => Act::Tell(text),
    }
}
