//! The choice of the leader, and the updates that it sends.
//!
//! The highest version wins, then the later mtime, then the lowest member. Leader and follower use one test for being
//! synced: the whole state is equal, byte for byte.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmxcfs_memdb::{Entry, Index, Tree};

use super::{Database, TreeStore, update::Following};
use crate::{
    app::{Exchange, SyncError},
    core::MemberId,
};

impl<S: TreeStore> Database<S> {
    /// Makes the state of this member. Holes get their zeros first: a C follower could not agree with a size without data.
    pub(super) fn announce(&mut self) -> Result<Bytes, SyncError> {
        if self.store.read(Tree::has_holes) {
            self.store.change(Tree::fill_holes);
        }
        let index = self.store.read(Tree::index);
        if self.store.is_failed() {
            return Err(SyncError::Store("the local store has failed".to_owned()));
        }
        let bytes = index.bytes().clone();
        self.announced = Some(index);
        Ok(bytes)
    }

    pub(super) fn decide(
        &mut self,
        states: &[(MemberId, Bytes)],
        own: usize,
    ) -> Result<Exchange, SyncError> {
        let indexes = decode_all(states)?;
        let leader = leader(&indexes);
        let leading = states.get(leader).zip(indexes.get(leader));
        let (Some(((leader_member, _), leader_index)), Some(own_index)) =
            (leading, self.announced.take())
        else {
            return Err(inconsistent("states without an own state"));
        };
        if indexes.get(own) != Some(&own_index) {
            return Err(inconsistent("the own state is not what was sent"));
        }
        let synced: Vec<bool> = indexes.iter().map(|index| index == leader_index).collect();
        if own == leader {
            let others = indexes.iter().filter(|index| *index != leader_index);
            let wanted = others.flat_map(|other| own_index.changed_against(other));
            self.updates = self.entries(&wanted.collect())?.into_iter();
        } else if synced.get(own) != Some(&true) {
            let (leader, node) = (leader_index.clone(), leader_member.node);
            self.following = Some(Following::new(own_index, leader, node));
        }
        Ok(Exchange {
            synced,
            is_leader: own == leader,
        })
    }

    fn entries(&self, wanted: &BTreeSet<u64>) -> Result<Vec<Entry>, SyncError> {
        let changed = || inconsistent("the tree changed during the exchange");
        self.store.read(|tree| {
            let entries = wanted.iter().map(|inode| tree.entry(*inode).cloned());
            entries.map(|entry| entry.ok_or_else(changed)).collect()
        })
    }
}

fn decode_all(states: &[(MemberId, Bytes)]) -> Result<Vec<Index>, SyncError> {
    states
        .iter()
        .map(|(member, state)| {
            Index::decode(state)
                .map_err(|error| SyncError::Inconsistent(format!("bad state of {member}: {error}")))
        })
        .collect()
}

/// Position of the leader among indexes in ascending order of members.
fn leader(indexes: &[Index]) -> usize {
    let rank = |index: &Index| (index.root().version, index.root().mtime);
    let mut leader = 0;
    for (candidate, index) in indexes.iter().enumerate() {
        if indexes
            .get(leader)
            .is_some_and(|best| rank(index) > rank(best))
        {
            leader = candidate;
        }
    }
    leader
}

fn inconsistent(reason: &str) -> SyncError {
    SyncError::Inconsistent(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use pmxcfs_memdb::{Index, RootState};

    use super::leader;

    #[test]
    fn highest_version_then_latest_mtime_then_lowest_member_leads() {
        let table = [
            (
                "version before mtime",
                vec![(3, 900), (4, 100), (3, 950)],
                1,
            ),
            ("mtime breaks ties", vec![(4, 100), (3, 900), (4, 101)], 2),
            ("all equal", vec![(4, 100), (4, 100), (4, 100)], 0),
            ("tie of two", vec![(1, 1), (4, 100), (4, 100)], 1),
            ("alone", vec![(0, 0)], 0),
        ];
        for (name, roots, expected) in table {
            let indexes: Vec<Index> = roots
                .iter()
                .map(|(version, mtime)| {
                    let root = RootState {
                        version: *version,
                        writer: 0,
                        mtime: *mtime,
                    };
                    Index::new(root, std::iter::empty())
                })
                .collect();
            assert_eq!(leader(&indexes), expected, "{name}");
        }
    }
}
