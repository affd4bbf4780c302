//! The status group's side of the daemon: soft state of all members, kept in [`Status`].

use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::NodeId;
use pmxcfs_dfsm::core::MemberId;
use pmxcfs_dfsm::status::{StatusGroup, StatusRequest, StatusStore};
use pmxcfs_logger::{Entry, Origin};
use pmxcfs_services::group::GroupHandle;
use pmxcfs_services::quorum::QuorumMonitor;
use pmxcfs_status::{Peers, Status};

/// The soft state as the group changes it.
pub(crate) struct ReplicatedStatus {
    pub(super) status: Arc<Status>,
    pub(super) quorum: QuorumMonitor,
}

impl StatusStore for ReplicatedStatus {
    fn set(&mut self, sender: MemberId, key: &Bytes, value: &Bytes) {
        if let Err(error) = self.status.apply_value(NodeId(sender.node), key, value) {
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
        for (place, error) in self.status.merge_states(&states, own) {
            let member = rings[place].0;
            tracing::warn!(%member, %error, "ignore the cluster log of a member");
        }
    }

    fn set_members(&mut self, members: &[MemberId]) {
        self.status
            .set_online(members.iter().map(|member| NodeId(member.node)));
    }

    fn own_keys(&self) -> Vec<(Bytes, Bytes)> {
        self.status.own_values()
    }

    fn own_address(&self) -> Bytes {
        self.status.own_address()
    }

    fn disconnected(&mut self) {
        self.status.lose_cluster();
        // A connection of this group alone says nothing about the quorum.
        self.status.set_quorate(self.quorum.drain().is_quorate);
    }
}

/// Sends the keys and log entries of local clients to the other members.
pub(super) struct GroupPeers(pub(super) GroupHandle<StatusGroup<ReplicatedStatus>>);

impl Peers for GroupPeers {
    fn send_value(&self, key: Bytes, value: Bytes) {
        self.0.submit(StatusRequest::Set { key, value });
    }

    fn send_log(&self, entry: Entry) {
        let entry = Bytes::copy_from_slice(entry.as_bytes());
        self.0.submit(StatusRequest::Log { entry });
    }
}
