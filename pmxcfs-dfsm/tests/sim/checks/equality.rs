//! Members that are synced and have received the same hold the same, byte for byte (invariant 6), and have the same
//! messages waiting (invariant 7).

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use pmxcfs_dfsm::core::Mode;
use pmxcfs_memdb::Tree;

use super::Strays;
use crate::sim::{
    cluster::Cluster,
    cpg::Position,
    group::{Fed, What},
};

/// Views that are remembered. Nobody lags behind further than that for long.
const VIEW_COUNT: u64 = 30;

#[derive(Default)]
pub(super) struct Equality {
    held: BTreeMap<Position, (usize, u64)>,
    queued: BTreeMap<Position, (usize, usize)>,
}

impl Equality {
    pub(super) fn look(&mut self, fed: &Fed, strays: &Strays, cluster: &Cluster) {
        let is_news = !matches!(fed.what, What::Tick | What::Other);
        let (Some(position), true) = (fed.position, is_news) else {
            return;
        };
        let Some(member) = &cluster.database.members[fed.node] else {
            return;
        };
        if member.id != fed.id || member.replica.mode() != fed.after {
            return;
        }
        if strays.has_strayed(fed.node) {
            return;
        }
        if fed.is_ours && matches!(fed.after, Mode::StartSync | Mode::Synced | Mode::Update) {
            let count = member.replica.queued_count();
            let (other, expected) = *self.queued.entry(position).or_insert((fed.node, count));
            assert!(
                count == expected,
                "queue: node {} has {count} messages waiting at {position:?}, node {} had {expected}",
                fed.node + 1,
                other + 1
            );
        }
        if fed.after != Mode::Synced {
            return;
        }
        let tree = cluster.tree(fed.node).expect("it was just told something");
        let own = fingerprint(tree);
        let (other, expected) = *self.held.entry(position).or_insert((fed.node, own));
        assert!(
            own == expected,
            "equality: node {} holds other data at {position:?} than node {}:\n{}",
            fed.node + 1,
            other + 1,
            listing(cluster),
        );
        let oldest = Position {
            view: position.view.saturating_sub(VIEW_COUNT),
            seen: 0,
        };
        if self
            .held
            .first_key_value()
            .is_some_and(|(first, _)| *first < oldest)
        {
            self.held = self.held.split_off(&oldest);
            self.queued = self.queued.split_off(&oldest);
        }
    }
}

/// A digest of everything in a tree.
pub(crate) fn fingerprint(tree: &Tree) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in tree.entries() {
        entry.inode.hash(&mut hasher);
        entry.parent.hash(&mut hasher);
        entry.version.hash(&mut hasher);
        (entry.writer, entry.mtime, entry.size).hash(&mut hasher);
        entry.is_directory().hash(&mut hasher);
        entry.name.hash(&mut hasher);
        entry.data.hash(&mut hasher);
    }
    hasher.finish()
}

/// What all nodes hold.
pub(crate) fn listing(cluster: &Cluster) -> String {
    let mut lines = Vec::new();
    for node in 0..cluster.count() {
        let Some(tree) = cluster.tree(node) else {
            continue;
        };
        let entries: Vec<String> = tree
            .entries()
            .map(|entry| {
                let name = String::from_utf8_lossy(&entry.name);
                format!(
                    "{}:{name} v{} w{} t{}",
                    entry.inode, entry.version, entry.writer, entry.mtime
                )
            })
            .collect();
        let mode = cluster.mode(node);
        lines.push(format!("{} {mode:?} [{}]", node + 1, entries.join(", ")));
    }
    lines.join("\n")
}
