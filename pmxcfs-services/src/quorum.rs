//! **QuorumService**: whether this side of the cluster may decide.
//!
//! Corosync tells quorum and group messages over different connections, so one can overtake the other. A group therefore
//! drains the quorum connection before it handles messages, through a [`QuorumMonitor`]: a message is never
//! judged by a quorum that had changed before it.

use std::sync::Arc;

use pmxcfs_api_types::sync::{Mutex, Rank};
use pmxcfs_dfsm::core::QuorumView;
use rust_corosync::NodeId;
use tokio::sync::watch;

use crate::corosync::{CorosyncError, Quorum};
use crate::framework::{Context, Failure, Service};

/// The present quorum, shared between the service and the groups. Cheap to clone.
#[derive(Clone)]
pub struct QuorumMonitor(Arc<Shared>);

struct Shared {
    /// Held for a look at the connection, which does not wait: one thread looks at a time, so that a later change is set later.
    connection: Mutex<Option<Arc<Quorum>>>,
    view: watch::Sender<QuorumView>,
}

impl Default for QuorumMonitor {
    /// Not quorate until corosync says so.
    fn default() -> Self {
        Self(Arc::new(Shared {
            connection: Mutex::new(Rank::QuorumConnection, None),
            view: watch::Sender::default(),
        }))
    }
}

impl QuorumMonitor {
    /// Whether this node was quorate when it was last looked at.
    pub fn is_quorate(&self) -> bool {
        self.0.view.borrow().is_quorate
    }

    /// The quorum and the nodes of this side as they were when it was last looked at.
    pub fn view(&self) -> QuorumView {
        self.0.view.borrow().clone()
    }

    /// Wakes its owner with every change.
    pub fn subscribe(&self) -> watch::Receiver<QuorumView> {
        self.0.view.subscribe()
    }

    /// Takes in all notifications that have arrived, without waiting, and says how things are.
    pub fn drain(&self) -> QuorumView {
        // The service sees the same error and deals with it.
        let _seen = self.look();
        self.view()
    }

    /// The connection stays after an error, which is for good, so that each look sees it.
    fn look(&self) -> Result<(), CorosyncError> {
        let connection = self.0.connection.lock();
        let Some(quorum) = connection.as_deref() else {
            return Ok(());
        };
        let seen = quorum.dispatch();
        match &seen {
            Ok(seen) => self.note(seen),
            Err(_) => self.note(&[(false, Vec::new())]),
        }
        seen.map(|_seen| ())
    }

    fn disconnect(&self) {
        *self.0.connection.lock() = None;
        self.note(&[(false, Vec::new())]);
    }

    /// Takes in reports, quorum and nodes each, in their order. Others see the view after the last one.
    fn note(&self, reports: &[(bool, Vec<NodeId>)]) {
        self.0.view.send_if_modified(|present| {
            let view = reports
                .iter()
                .fold(present.clone(), |view, (is_quorate, nodes)| {
                    view.followed_by(*is_quorate, nodes.iter().map(|node| u32::from(*node)))
                });
            let is_change = *present != view;
            *present = view;
            is_change
        });
    }
}

/// Connects the monitor to corosync and keeps it up to date.
pub struct QuorumService {
    monitor: QuorumMonitor,
}

impl QuorumService {
    /// Serves a monitor.
    pub const fn new(monitor: QuorumMonitor) -> Self {
        Self { monitor }
    }

    async fn follow(&self, connection: &Quorum, context: &mut Context) -> Result<(), Failure> {
        loop {
            tokio::select! {
                seen = connection.receive(|| self.monitor.look()) => seen?,
                () = context.stopped() => return Ok(()),
            }
        }
    }
}

impl Service for QuorumService {
    fn name(&self) -> &'static str {
        "quorum"
    }

    async fn run(&mut self, context: &mut Context) -> Result<(), Failure> {
        let connection = Arc::new(tokio::task::spawn_blocking(Quorum::connect).await??);
        *self.monitor.0.connection.lock() = Some(Arc::clone(&connection));
        context.ready();
        let result = self.follow(&connection, context).await;
        self.monitor.disconnect();
        result
    }
}
