//! Every request has one answer (the cluster sees to that), and it is true: what succeeded is there, what was refused is
//! not and never will be, and nothing was done twice (invariant 13).
//!
//! Directories called `once...` are made by one request each and removed by none, so their answers tell.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::core::Mode;
use pmxcfs_memdb::Operation;

use super::Strays;
use crate::sim::cluster::{Answered, Cluster};

#[derive(Default)]
pub(crate) struct Answers {
    /// Refused before they were sent.
    refused: BTreeSet<Bytes>,
    pub(crate) answer_count: usize,
    pub(crate) success_count: usize,
}

impl Answers {
    pub(super) fn look(&mut self, answered: &Answered, strays: &Strays, cluster: &Cluster) {
        self.answer_count += 1;
        self.success_count += usize::from(answered.result.is_ok());
        let Operation::Mkdir { path } = &answered.asked.operation else {
            return;
        };
        if !path.starts_with(b"once") {
            return;
        }
        let node = answered.asked.node;
        let is_peer = strays.is_peer(answered.asked.member);
        match answered.result {
            Ok(_) => {
                let tree = cluster.tree(node);
                let is_there = tree.is_some_and(|tree| tree.lookup(path).is_some());
                // It may have gone on to another tree in the same event only by leaving.
                let is_synced = cluster.mode(node) == Some(Mode::Synced);
                assert!(
                    is_there || !is_synced,
                    "answers: {answered:?} succeeded and is not there"
                );
            }
            Err(FsError::Access) => {
                self.refused.insert(path.clone());
            }
            Err(FsError::Busy | FsError::Io) => {}
            // A C daemon left while it handled the message, or applied it twice.
            Err(FsError::NotPermitted | FsError::Exists) if is_peer => {}
            Err(error) => panic!("answers: {answered:?} was done twice: {error}"),
        }
    }

    pub(super) fn end(&self, cluster: &Cluster) {
        for node in 0..cluster.count() {
            let Some(tree) = cluster.tree(node) else {
                continue;
            };
            for path in &self.refused {
                assert!(
                    tree.lookup(path).is_none(),
                    "answers: {} was refused and is on node {}",
                    String::from_utf8_lossy(path),
                    node + 1
                );
            }
        }
    }
}
