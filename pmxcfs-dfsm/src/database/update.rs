//! A follower's way to the leader's data.

use std::collections::BTreeSet;
use std::iter;

use bytes::Bytes;
use pmxcfs_memdb::store::Discarded;
use pmxcfs_memdb::{Entry, HashedEntry, Index, ROOT_INODE, RootState, Tree};

use super::{store::TreeStore, wire::UpdateMessage};
use crate::app::SyncError;

/// Entries of the former tree that are looked at in one go.
const CHUNK_COUNT: usize = 1024;

/// An update under way.
#[derive(Debug)]
pub(super) struct Following {
    /// The own announcement.
    own: Index,
    /// The leader's announcement.
    leader: Index,
    /// The leader.
    pub(super) leader_node: u32,
    /// The updates of the leader so far, hashed while the next ones are under way.
    updates: Vec<HashedEntry>,
}

impl Following {
    pub(super) const fn new(own: Index, leader: Index, leader_node: u32) -> Self {
        Self {
            own,
            leader,
            leader_node,
            updates: Vec::new(),
        }
    }

    /// Takes one update of the leader.
    pub(super) fn record(&mut self, payload: &Bytes) -> Result<(), SyncError> {
        let update = UpdateMessage::decode(payload)
            .map_err(|error| SyncError::Inconsistent(format!("bad update: {error}")))?;
        self.updates.push(update.entry.into());
        Ok(())
    }

    /// Makes the new tree of the former one and the updates. Its index is the leader's.
    pub(super) fn build(mut self, former: &impl TreeStore, now_secs: u64) -> Result<Built, String> {
        let removed: BTreeSet<u64> = self.own.absent_from(&self.leader).collect();
        let updates = last_of_each(&mut self.updates);
        let update_of = |inode| {
            let place = updates.binary_search_by_key(&inode, |update| update.entry.inode);
            place.ok().map(|place| &updates[place].entry)
        };
        let mut replaced = Vec::new();
        let kept = entries(former).filter(|HashedEntry { entry, .. }| {
            let update = update_of(entry.inode);
            let is_removed = removed.contains(&entry.inode);
            if is_removed || update.is_some_and(|update| is_older(update, entry)) {
                replaced.push(entry.clone());
            }
            !is_removed && update.is_none()
        });
        let new = updates
            .iter()
            .filter(|update| update.entry.inode != ROOT_INODE);
        let root = update_of(ROOT_INODE).map(root_state);
        let root = root.unwrap_or_else(|| former.read(Tree::root));
        let rules = former.read(Tree::rules);
        let tree = Tree::from_hashed(root, kept.chain(new.cloned()), rules, now_secs)
            .map_err(|error| error.to_string())?;
        if tree.index() != self.leader {
            return Err("the updates do not lead to the leader's data".to_owned());
        }
        let discarded = replaced
            .into_iter()
            .filter_map(|entry| lost(entry, former, &tree));
        let inodes = updates.iter().map(|update| update.entry.inode);
        let mut touched: BTreeSet<u64> = removed.iter().copied().chain(inodes).collect();
        touched.remove(&ROOT_INODE);
        Ok(Built {
            discarded: discarded.collect(),
            touched,
            tree,
        })
    }
}

/// The tree after an update.
pub(super) struct Built {
    pub(super) tree: Tree,
    /// Inodes that differ from the former tree or are gone.
    pub(super) touched: BTreeSet<u64>,
    /// Entries of the former tree that are lost.
    pub(super) discarded: Vec<Discarded>,
}

/// The last update of each inode, in ascending order of inodes.
fn last_of_each(updates: &mut Vec<HashedEntry>) -> &[HashedEntry] {
    updates.reverse();
    updates.sort_by_key(|update| update.entry.inode);
    updates.dedup_by_key(|update| update.entry.inode);
    updates
}

/// All entries of a tree but the root, which is locked for moments only: nothing changes it during an update.
fn entries(store: &impl TreeStore) -> impl Iterator<Item = HashedEntry> {
    let mut last = ROOT_INODE;
    let chunks = iter::from_fn(move || {
        let chunk = store.read(|tree| tree.hashed_above(last, CHUNK_COUNT));
        last = chunk.last()?.entry.inode;
        Some(chunk)
    });
    chunks.flatten()
}

/// Whether an own entry is replaced by another one that is not newer.
fn is_older(update: &Entry, own: &Entry) -> bool {
    own != update && own.version >= update.version
}

/// A replaced entry is lost unless its path still leads to the same content.
fn lost(entry: Entry, former: &impl TreeStore, new: &Tree) -> Option<Discarded> {
    let path = former.read(|tree| tree.path_of(entry.inode));
    let path = path.unwrap_or_else(|| entry.name.clone());
    let is_kept = new
        .lookup(&path)
        .is_some_and(|other| other.kind == entry.kind && other.content() == entry.content());
    (!is_kept).then_some(Discarded { path, entry })
}

fn root_state(entry: &Entry) -> RootState {
    RootState {
        version: entry.version,
        writer: entry.writer,
        mtime: entry.mtime,
    }
}
