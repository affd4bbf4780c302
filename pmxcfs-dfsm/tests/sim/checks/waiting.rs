//! Nobody under test waits for a state that cannot come: after a bounded silence it leaves.

use std::collections::HashMap;

use pmxcfs_dfsm::core::{MemberId, Mode};

use crate::sim::{
    cluster::Cluster,
    group::{Fed, What},
};

/// The silence that a member endures, without the part that depends on its place in the list.
const BOUND_MS: u64 = 30_000;

#[derive(Default)]
pub(super) struct Waiting {
    heard_ms: HashMap<MemberId, u64>,
}

impl Waiting {
    pub(super) fn look(&mut self, fed: &Fed, cluster: &Cluster) {
        if !fed.is_ours {
            return;
        }
        let now_ms = cluster.network.now_ms;
        let waits = matches!(fed.after, Mode::StartSync | Mode::Update);
        if !waits || !matches!(fed.what, What::Tick | What::Other) {
            self.heard_ms.insert(fed.id, now_ms);
            return;
        }
        let heard_ms = *self.heard_ms.entry(fed.id).or_insert(now_ms);
        let bound_ms = BOUND_MS + 1000 * cluster.count() as u64 + 1000;
        assert!(
            now_ms < heard_ms + bound_ms || !matches!(fed.what, What::Tick),
            "waiting: {} has waited for {} ms in mode {:?}",
            fed.id,
            now_ms - heard_ms,
            fed.after
        );
    }
}
