//! The status group's side of the daemon: soft state of all members, kept in [`Status`].

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::{FsError, NodeId};
use pmxcfs_dfsm::core::{MemberId, RequestId};
use pmxcfs_dfsm::status::{StatusGroup, StatusNotice, StatusRequest, StatusStore};
use pmxcfs_logger::{Entry, Origin};
use pmxcfs_services::group::{GroupHandle, GroupHost};
use pmxcfs_services::quorum::QuorumMonitor;
use pmxcfs_status::{Peers, Status, Update};

/// Key under which a node tells its address.
const ADDRESS_KEY: &[u8] = b"nodeip";

/// The soft state as the group changes it.
#[derive(Debug)]
pub(crate) struct ReplicatedStatus(pub(super) Arc<Status>);

impl StatusStore for ReplicatedStatus {
    fn set(&mut self, sender: MemberId, key: &Bytes, value: &Bytes) {
        let update = Update {
            key: key.clone(),
            value: value.clone(),
        };
        if let Err(error) = self.0.apply_update(NodeId(sender.node), &update) {
            tracing::debug!(%sender, key = %key.escape_ascii(), %error, "ignore status update");
        }
    }

    fn log(&mut self, sender: MemberId, entry: &Bytes) {
        match Entry::decode(entry) {
            Ok(entry) => {
                let origin = Origin {
                    node: NodeId(sender.node),
                    pid: sender.pid,
                };
                self.0.receive_log(&entry, origin);
            }
            Err(error) => tracing::warn!(%sender, %error, "ignore log entry"),
        }
    }

    fn log_ring(&mut self) -> Bytes {
        self.0.state()
    }

    fn merge_logs(&mut self, rings: &[(MemberId, Bytes)], own: usize) {
        let states: Vec<Option<&[u8]>> = rings.iter().map(|(_, ring)| Some(&ring[..])).collect();
        for rejected in self.0.merge_states(&states, own) {
            tracing::warn!(?rejected, "ignore the cluster log of a member");
        }
    }

    fn set_members(&mut self, members: &[MemberId]) {
        self.0
            .set_online(members.iter().map(|member| NodeId(member.node)));
    }

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        let repetition = self.0.repetition().into_iter();
        repetition
            .filter(|update| update.key != ADDRESS_KEY)
            .map(|update| (update.key, update.value))
            .collect()
    }

    fn own_address(&self) -> Bytes {
        let address = self
            .0
            .repetition()
            .into_iter()
            .find(|update| update.key == ADDRESS_KEY);
        // A start in cluster mode needs an address, so there always is one.
        address.map_or(Bytes::from_static(b"\0"), |update| update.value)
    }
}

/// What the status group's driver works for. Nobody waits for what becomes of a status message.
pub(crate) struct StatusHost {
    next_id: u64,
    quorum: QuorumMonitor,
}

impl StatusHost {
    pub(super) const fn new(quorum: QuorumMonitor) -> Self {
        Self { next_id: 0, quorum }
    }
}

impl GroupHost for StatusHost {
    const NAME: &'static str = "status synchronisation";

    type App = StatusGroup<ReplicatedStatus>;
    type Input = StatusRequest;

    fn accept(
        &mut self,
        request: StatusRequest,
        _app: &mut Self::App,
    ) -> Option<(RequestId, StatusRequest)> {
        self.next_id += 1;
        Some((RequestId(self.next_id), request))
    }

    fn refuse(&mut self, _request: StatusRequest, _error: FsError) {}

    fn answer(&mut self, _id: RequestId, _result: Result<u32, FsError>, _app: &mut Self::App) {}

    fn notice(&mut self, notice: StatusNotice, _app: &mut Self::App) {
        match notice {}
    }

    fn settle(&mut self, _app: &mut Self::App) {}

    fn disconnected(&mut self, app: &mut Self::App) {
        let status = &app.store().0;
        status.lose_cluster();
        // A connection of this group alone says nothing about the quorum.
        status.set_quorate(self.quorum.drain());
    }
}

/// Sends what local clients set and log to the other members.
pub(super) struct GroupPeers(pub(super) GroupHandle<StatusRequest>);

impl Peers for GroupPeers {
    fn send_update(&self, update: Update) {
        let Update { key, value } = update;
        // A driver that has ended sends nothing any more; the next exchange would have carried it.
        let _sent = self.0.submit(StatusRequest::Set { key, value });
    }

    fn send_log(&self, entry: Entry) {
        let entry = Bytes::copy_from_slice(entry.as_bytes());
        let _sent = self.0.submit(StatusRequest::Log { entry });
    }
}
