//! A follower's way to the leader's data.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pmxcfs_memdb::store::Discarded;
use pmxcfs_memdb::{Entry, Index, ROOT_INODE, RootState, Tree};

use super::wire::UpdateMessage;
use crate::app::SyncError;

/// How many discarded entries the log names; the notice has all.
const NAMED_LIMIT: usize = 20;

/// An update under way.
#[derive(Debug)]
pub(super) struct Following {
    /// The own announcement.
    own: Index,
    /// The leader's announcement, as bytes and decoded.
    leader_state: Bytes,
    leader: Index,
    /// The leader.
    pub(super) leader_node: u32,
    /// The updates of the leader so far; the last one of an inode counts.
    updates: BTreeMap<u64, Entry>,
}

impl Following {
    pub(super) const fn new(
        own: Index,
        leader_state: Bytes,
        leader: Index,
        leader_node: u32,
    ) -> Self {
        Self {
            own,
            leader_state,
            leader,
            leader_node,
            updates: BTreeMap::new(),
        }
    }

    /// Takes one update of the leader.
    pub(super) fn record(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        let update = UpdateMessage::decode(payload)
            .map_err(|error| SyncError::Inconsistent(format!("bad update: {error}")))?;
        self.updates.insert(update.entry.inode, update.entry);
        Ok(())
    }

    /// Own inodes that the leader does not have.
    fn removed(&self) -> BTreeSet<u64> {
        self.own.absent_from(&self.leader).collect()
    }

    /// Inodes that differ from the former tree or are gone.
    pub(super) fn touched(&self) -> Vec<u64> {
        let removed = self.removed();
        let touched = removed.iter().chain(self.updates.keys()).copied();
        let touched: BTreeSet<u64> = touched.filter(|inode| *inode != ROOT_INODE).collect();
        touched.into_iter().collect()
    }

    /// Makes the new tree of the former one and the updates.
    pub(super) fn build(&self, former: &Tree, now_secs: u64) -> Result<Built, String> {
        let removed = self.removed();
        let updates = &self.updates;
        let kept = former.entries().filter(|entry| {
            entry.inode != ROOT_INODE
                && !removed.contains(&entry.inode)
                && !updates.contains_key(&entry.inode)
        });
        let new = updates.values().filter(|entry| entry.inode != ROOT_INODE);
        let entries: Vec<Entry> = kept.chain(new).cloned().collect();
        let root = updates.get(&ROOT_INODE).map_or(former.root(), root_state);
        let tree = Tree::from_entries(root, entries, former.rules(), now_secs)
            .map_err(|error| error.to_string())?;
        // Most entries are the same: no need to hash them again for the index.
        tree.learn_digests(former);
        let replaced = former.entries().filter(|entry| {
            let update = updates.get(&entry.inode);
            removed.contains(&entry.inode) || update.is_some_and(|update| is_older(update, entry))
        });
        let discarded = replaced.filter_map(|entry| lost(entry, former, &tree));
        Ok(Built {
            discarded: discarded.collect(),
            tree,
        })
    }

    /// Gives the tree back if its index is the leader's.
    pub(super) fn check(&self, built: Built) -> Result<Built, String> {
        if built.tree.index().encode() == self.leader_state {
            Ok(built)
        } else {
            Err("the updates do not lead to the leader's data".to_owned())
        }
    }
}

/// The tree after an update.
pub(super) struct Built {
    pub(super) tree: Tree,
    /// Entries of the former tree that are lost.
    pub(super) discarded: Vec<Discarded>,
}

/// Whether an own entry is replaced by another one that is not newer.
fn is_older(update: &Entry, own: &Entry) -> bool {
    own.inode != ROOT_INODE && own != update && own.version >= update.version
}

/// A replaced entry is lost unless its path still leads to the same content.
fn lost(entry: &Entry, former: &Tree, new: &Tree) -> Option<Discarded> {
    let path = former
        .path_of(entry.inode)
        .unwrap_or_else(|| entry.name.clone());
    let is_kept = new
        .lookup(&path)
        .is_some_and(|other| other.kind == entry.kind && other.content() == entry.content());
    (!is_kept).then(|| Discarded {
        path,
        entry: entry.clone(),
    })
}

/// The log line about lost entries.
pub(super) fn discarded_text(discarded: &[Discarded]) -> String {
    let paths: Vec<String> = discarded
        .iter()
        .take(NAMED_LIMIT)
        .map(|discarded| discarded.path.escape_ascii().to_string())
        .collect();
    let more = if discarded.len() > NAMED_LIMIT {
        ", ..."
    } else {
        ""
    };
    let entries = if discarded.len() == 1 {
        "entry"
    } else {
        "entries"
    };
    format!(
        "{} {entries} replaced by the leader's version: {}{more}",
        discarded.len(),
        paths.join(", ")
    )
}

fn root_state(entry: &Entry) -> RootState {
    RootState {
        version: entry.version,
        writer: entry.writer,
        mtime: entry.mtime,
    }
}
