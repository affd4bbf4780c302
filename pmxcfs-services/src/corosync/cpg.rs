//! Closed process groups: messages to all members in one order, and membership changes within it.

use std::sync::OnceLock;

use bytes::Bytes;
use pmxcfs_dfsm::core::{Event, MemberId};
use rust_corosync::{CsError, DispatchFlags, NodeId, cpg};

use super::error::CorosyncError;
use super::inbox::{self, Inbox};
use super::readiness::Readiness;

thread_local! {
    static INBOX: Inbox<Event> = const { Inbox::new(Vec::new()) };
}

/// The reason why a message is not on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Corosync's flow control, or a membership change in the middle of a large message: send it again a little later.
    #[error("corosync asks to try again")]
    Blocked,
    /// Anything else.
    #[error(transparent)]
    Failed(CorosyncError),
}

/// A connection, which can be in one group, once: corosync refuses a second join on a connection that has left.
///
/// To be made within a tokio runtime and owned by one task. With its last owner it leaves the group and is closed, on a thread
/// of its own: corosync is asked to agree to both, and one that stands still never answers.
pub struct Cpg {
    // Dropped before the owner: the library closes the descriptor.
    readiness: Readiness,
    owner: Owner,
    /// The same handle, which closes nothing.
    handle: cpg::Handle,
    local: MemberId,
}

impl Cpg {
    /// Connects. Waits for corosync a little: not to be called from a task of the runtime.
    ///
    /// # Errors
    /// If corosync does not run or refuses.
    pub fn connect() -> Result<Self, CorosyncError> {
        let model = cpg::ModelData::ModelV1(cpg::Model1Data {
            flags: cpg::Model1Flags::None,
            deliver_fn: Some(delivered),
            confchg_fn: Some(membership_changed),
            totem_confchg_fn: None,
        });
        let handle = CorosyncError::check("cpg_model_initialize", cpg::initialize(&model, 0))?;
        let fd = CorosyncError::check("cpg_fd_get", cpg::fd_get(&handle))?;
        let node = CorosyncError::check("cpg_local_get", cpg::local_get(&handle))?;
        Ok(Self {
            readiness: Readiness::new(fd)?,
            handle: handle.clone(),
            owner: Owner {
                handle: Some(handle),
                group: OnceLock::new(),
            },
            local: MemberId {
                node: u32::from(node),
                pid: std::process::id(),
            },
        })
    }

    /// Node id as corosync tells it, and own process id.
    pub const fn local(&self) -> MemberId {
        self.local
    }

    /// Joins a group. Its name is given without the NUL, which belongs to it and is added here.
    ///
    /// # Errors
    /// If corosync refuses; [`CorosyncError::is_try_again`] is usual right after a membership change, and for as long as a
    /// former connection of this process is being closed.
    pub fn join(&self, group: &str) -> Result<(), CorosyncError> {
        let group = format!("{group}\0");
        let joined = match cpg::join(&self.handle, &group) {
            // Not by this connection, so by one that is about to leave.
            Err(CsError::CsErrExist) if self.owner.group.get().is_none() => {
                Err(CsError::CsErrTryAgain)
            }
            joined => joined,
        };
        CorosyncError::check("cpg_join", joined)?;
        // A connection joins once.
        let _first = self.owner.group.set(group);
        Ok(())
    }

    /// Hands a message over, in agreed order.
    ///
    /// # Errors
    /// If it is not on its way.
    pub fn send(&self, message: &[u8]) -> Result<(), SendError> {
        match cpg::mcast_joined(&self.handle, cpg::Guarantee::TypeAgreed, message) {
            Ok(()) => Ok(()),
            Err(CsError::CsErrTryAgain | CsError::CsErrInterrupt) => Err(SendError::Blocked),
            Err(code) => Err(SendError::Failed(CorosyncError::new(
                "cpg_mcast_joined",
                code,
            ))),
        }
    }

    /// Waits until there is something, and takes everything that has arrived. It can be given up at any time.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn receive(&self) -> Result<Vec<Event>, CorosyncError> {
        self.readiness.receive(|| self.dispatch()).await
    }

    /// Takes everything that has arrived, without waiting.
    ///
    /// # Errors
    /// If the connection is lost, with all events that arrived before.
    fn dispatch(&self) -> Result<Vec<Event>, CorosyncError> {
        let (result, events) =
            inbox::collect(&INBOX, || cpg::dispatch(&self.handle, DispatchFlags::All));
        match result {
            Ok(()) | Err(CsError::CsErrTryAgain) => Ok(events),
            Err(code) => Err(CorosyncError::new("cpg_dispatch", code)),
        }
    }
}

/// A connection until it is closed.
struct Owner {
    handle: Option<cpg::Handle>,
    group: OnceLock<String>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let (handle, group) = (self.handle.take(), self.group.take());
        let close = move || {
            if let (Some(handle), Some(group)) = (&handle, &group)
                && let Err(code) = cpg::leave(handle, group)
            {
                let error = CorosyncError::new("cpg_leave", code);
                tracing::debug!(%error, "leaving by closing the connection");
            }
        };
        let thread = std::thread::Builder::new().name("cpg-close".to_owned());
        // Without a thread it is closed here, and that is taken for leaving.
        if let Err(error) = thread.spawn(close) {
            tracing::warn!(%error, "cannot start a thread that closes a connection to corosync");
        }
    }
}

fn delivered(
    _handle: &cpg::Handle,
    _group: String,
    node: NodeId,
    pid: u32,
    message: &[u8],
    _length: usize,
) {
    let sender = MemberId {
        node: u32::from(node),
        pid,
    };
    let message = Bytes::copy_from_slice(message);
    inbox::put(&INBOX, Event::Delivered { sender, message });
}

fn membership_changed(
    _handle: &cpg::Handle,
    _group: &str,
    members: Vec<cpg::Address>,
    _left: Vec<cpg::Address>,
    joined: Vec<cpg::Address>,
) {
    let members = members.into_iter().map(|member| MemberId {
        node: u32::from(member.nodeid),
        pid: member.pid,
    });
    let event = Event::Membership {
        members: members.collect(),
        has_joined: !joined.is_empty(),
    };
    inbox::put(&INBOX, event);
}
