//! The status group's side of the daemon: soft state of all members, kept in [`Status`].

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::NodeId;
use pmxcfs_dfsm::core::MemberId;
use pmxcfs_dfsm::status::{StatusGroup, StatusRequest, StatusStore};
use pmxcfs_logger::{Entry, Origin};
use pmxcfs_services::group::GroupHandle;
use pmxcfs_services::quorum::QuorumMonitor;
use pmxcfs_status::{Peers, Status, Update};

/// Key under which a node tells its address.
const ADDRESS_KEY: &[u8] = b"nodeip";

/// The soft state as the group changes it.
#[derive(Debug)]
pub(crate) struct ReplicatedStatus {
    pub(super) status: Arc<Status>,
    pub(super) quorum: QuorumMonitor,
}

impl StatusStore for ReplicatedStatus {
    fn set(&mut self, sender: MemberId, key: &Bytes, value: &Bytes) {
        let update = Update {
            key: key.clone(),
            value: value.clone(),
        };
        if let Err(error) = self.status.apply_update(NodeId(sender.node), &update) {
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
                self.status.receive_log(&entry, origin);
            }
            Err(error) => tracing::warn!(%sender, %error, "ignore log entry"),
        }
    }

    fn log_ring(&mut self) -> Bytes {
        self.status.state()
    }

    fn merge_logs(&mut self, rings: &[(MemberId, Bytes)], own: usize) {
        let states: Vec<Option<&[u8]>> = rings.iter().map(|(_, ring)| Some(&ring[..])).collect();
        for rejected in self.status.merge_states(&states, own) {
            tracing::warn!(?rejected, "ignore the cluster log of a member");
        }
    }

    fn set_members(&mut self, members: &[MemberId]) {
        self.status
            .set_online(members.iter().map(|member| NodeId(member.node)));
    }

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        let repetition = self.status.repetition().into_iter();
        repetition
            .filter(|update| update.key != ADDRESS_KEY)
            .map(|update| (update.key, update.value))
            .collect()
    }

    fn own_address(&self) -> Bytes {
        let address = self
            .status
            .repetition()
            .into_iter()
            .find(|update| update.key == ADDRESS_KEY);
        // A start in cluster mode needs an address, so there always is one.
        address.map_or(Bytes::from_static(b"\0"), |update| update.value)
    }

    fn disconnected(&mut self) {
        self.status.lose_cluster();
        // A connection of this group alone says nothing about the quorum.
        self.status.set_quorate(self.quorum.drain());
    }
}

/// Sends the keys and log entries of local clients to the other members.
pub(super) struct GroupPeers(pub(super) GroupHandle<StatusGroup<ReplicatedStatus>>);

impl Peers for GroupPeers {
    fn send_update(&self, update: Update) {
        let Update { key, value } = update;
        self.0.submit(StatusRequest::Set { key, value });
    }

    fn send_log(&self, entry: Entry) {
        let entry = Bytes::copy_from_slice(entry.as_bytes());
        self.0.submit(StatusRequest::Log { entry });
    }
}
