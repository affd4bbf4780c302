//! How a follower becomes equal to the leader.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pmxcfs_memdb::{Entry, Index, ROOT_INODE, RootState, Tree};

use super::{Database, DatabaseNotice, TreeStore, wire::UpdateMessage};
use crate::{
    app::{Context, SyncError},
    core::LogLevel,
};

/// After this many commits in a row that failed, a member stays out: each round makes all members exchange states.
const FAILED_COMMIT_LIMIT: u32 = 3;

/// How many discarded entries the log names; the notice has all.
const NAMED_LIMIT: usize = 20;

/// An update under way.
#[derive(Debug)]
pub(super) struct Following {
    /// What this member announced.
    own: Index,
    /// What the leader announced, as bytes and decoded.
    leader_state: Bytes,
    leader: Index,
    /// What the leader sent so far; the last one of an inode counts.
    updates: BTreeMap<u64, Entry>,
}

impl Following {
    pub(super) const fn new(own: Index, leader_state: Bytes, leader: Index) -> Self {
        Self {
            own,
            leader_state,
            leader,
            updates: BTreeMap::new(),
        }
    }
}

impl<S: TreeStore> Database<S> {
    pub(super) fn record(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        let update = UpdateMessage::decode(payload)
            .map_err(|error| SyncError::Inconsistent(format!("bad update: {error}")))?;
        match &mut self.following {
            Some(following) => {
                following.updates.insert(update.entry.inode, update.entry);
                Ok(())
            }
            None => Err(SyncError::Inconsistent(
                "update without an exchange".to_owned(),
            )),
        }
    }

    /// Replaces the tree, if what results has the leader's index byte for byte.
    pub(super) fn follow(
        &mut self,
        context: &mut Context<'_, DatabaseNotice>,
    ) -> Result<(), SyncError> {
        let Some(following) = self.following.take() else {
            let reason = "end of an update without an exchange".to_owned();
            return Err(SyncError::Inconsistent(reason));
        };
        if self.store.is_failed() {
            return Err(SyncError::Store("the local store has failed".to_owned()));
        }
        let now_secs = context.now.monotonic_ms / 1000;
        let (tree, touched, discarded) = match self.build(&following, now_secs) {
            Ok(built) => built,
            Err(reason) => return Err(self.commit_failed(reason)),
        };
        self.store
            .replace(tree, &touched)
            .map_err(SyncError::Store)?;
        self.failed_commit_count = 0;
        if !discarded.is_empty() {
            context.log(LogLevel::Warn, discarded_text(&discarded));
        }
        context.notice(DatabaseNotice::Replaced { discarded });
        Ok(())
    }

    /// The new tree, the inodes that differ, and what is lost.
    fn build(
        &mut self,
        following: &Following,
        now_secs: u64,
    ) -> Result<(Tree, Vec<u64>, Vec<Entry>), String> {
        let removed: BTreeSet<u64> = following.own.absent_from(&following.leader).collect();
        let updates = &following.updates;
        let (tree, discarded) = self.store.change(|former, _changes| {
            let lost = former.entries().filter(|entry| {
                let update = updates.get(&entry.inode);
                removed.contains(&entry.inode)
                    || update
                        .is_some_and(|update| entry.inode != ROOT_INODE && is_loss(entry, update))
            });
            let discarded: Vec<Entry> = lost.cloned().collect();
            let kept = former.entries().filter(|entry| {
                entry.inode != ROOT_INODE
                    && !removed.contains(&entry.inode)
                    && !updates.contains_key(&entry.inode)
            });
            let new = updates.values().filter(|entry| entry.inode != ROOT_INODE);
            let entries: Vec<Entry> = kept.chain(new).cloned().collect();
            let root = updates.get(&ROOT_INODE).map_or(former.root(), root_state);
            let tree = Tree::from_entries(root, entries, former.rules(), now_secs);
            // Most entries are what they were: no need to hash them again for the index.
            if let Ok(tree) = &tree {
                tree.learn_digests(former);
            }
            (tree, discarded)
        });
        let tree = tree.map_err(|error| error.to_string())?;
        if tree.index().encode() != following.leader_state {
            return Err("the updates do not lead to the leader's data".to_owned());
        }
        let touched = removed.iter().chain(updates.keys()).copied();
        let touched: BTreeSet<u64> = touched.filter(|inode| *inode != ROOT_INODE).collect();
        Ok((tree, touched.into_iter().collect(), discarded))
    }

    fn commit_failed(&mut self, reason: String) -> SyncError {
        self.failed_commit_count += 1;
        if self.failed_commit_count >= FAILED_COMMIT_LIMIT {
            self.failed_commit_count = 0;
            return SyncError::Store(reason);
        }
        SyncError::Inconsistent(reason)
    }
}

/// Whether an own entry is replaced by one that is not newer.
fn is_loss(own: &Entry, update: &Entry) -> bool {
    own != update && own.version >= update.version
}

/// Names what the leader's data replaced.
fn discarded_text(discarded: &[Entry]) -> String {
    let names: Vec<String> = discarded
        .iter()
        .take(NAMED_LIMIT)
        .map(|entry| entry.name.escape_ascii().to_string())
        .collect();
    let more = if discarded.len() > NAMED_LIMIT {
        ", ..."
    } else {
        ""
    };
    format!(
        "{} entries gave way to the leader's data: {}{more}",
        discarded.len(),
        names.join(", ")
    )
}

fn root_state(entry: &Entry) -> RootState {
    RootState {
        version: entry.version,
        writer: entry.writer,
        mtime: entry.mtime,
    }
}
