//! Whether this side of the cluster may decide, and which nodes are on it.

use rust_corosync::{CsError, DispatchFlags, NodeId, TrackFlags, quorum};

use super::error::CorosyncError;
use super::inbox::{self, Inbox};
use super::readiness::Readiness;

thread_local! {
    static INBOX: Inbox<(bool, Vec<NodeId>)> = const { Inbox::new(Vec::new()) };
}

/// A connection that is told of every change of quorum or of the nodes, and of the present state at once.
///
/// To be made within a tokio runtime.
pub struct Quorum {
    // Dropped before the handle: the library closes the descriptor.
    readiness: Readiness,
    handle: quorum::Handle,
}

impl Quorum {
    /// Connects and asks for notifications. Waits for corosync a little: not to be called from a task of the runtime.
    ///
    /// # Errors
    /// If corosync does not run, refuses, or has no quorum provider.
    pub fn connect() -> Result<Self, CorosyncError> {
        let model = quorum::ModelData::ModelV1(quorum::Model1Data {
            flags: quorum::Model1Flags::None,
            quorum_notification_fn: Some(notified),
            nodelist_notification_fn: None,
        });
        let (handle, kind) =
            CorosyncError::check("quorum_model_initialize", quorum::initialize(&model, 0))?;
        if !matches!(kind, quorum::QuorumType::Set) {
            return Err(CorosyncError::NoQuorumProvider);
        }
        let fd = CorosyncError::check("quorum_fd_get", quorum::fd_get(&handle))?;
        let readiness = Readiness::new(fd)?;
        let tracking = quorum::trackstart(&handle, TrackFlags::Changes);
        CorosyncError::check("quorum_trackstart", tracking)?;
        Ok(Self { readiness, handle })
    }

    /// Waits for notifications and has them taken by `take`, which is to call [`dispatch`](Self::dispatch) and keep others from
    /// doing so at the same time. It can be given up at any time.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn receive<T>(
        &self,
        take: impl Fn() -> Result<T, CorosyncError>,
    ) -> Result<T, CorosyncError> {
        self.readiness.receive(take).await
    }

    /// Takes all notifications that have arrived, without waiting: whether this side is quorate, and its nodes. The library does not
    /// bear two threads in here on one connection: one of them could wait for ever.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn dispatch(&self) -> Result<Vec<(bool, Vec<NodeId>)>, CorosyncError> {
        let (result, seen) = inbox::collect(&INBOX, || {
            quorum::dispatch(&self.handle, DispatchFlags::All)
        });
        match result {
            Ok(()) | Err(CsError::CsErrTryAgain) => Ok(seen),
            Err(code) => Err(CorosyncError::new("quorum_dispatch", code)),
        }
    }
}

fn notified(_handle: &quorum::Handle, is_quorate: bool, _ring: quorum::RingId, nodes: Vec<NodeId>) {
    inbox::put(&INBOX, (is_quorate, nodes));
}
