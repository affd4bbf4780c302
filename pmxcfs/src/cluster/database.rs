//! The tree that the database group replicates, and what the rest of the daemon does at its notices.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_dfsm::database::{DatabaseNotice, NoticeSink, TreeStore};
use pmxcfs_memdb::store::{Discarded, Ticket, save_discarded};
use pmxcfs_memdb::{Caller, Change, Delivered, MemDb, Operation, Reply, Stamp, Tree};

use super::corosync_conf::Distributor;
use crate::health::Replacements;
use crate::health::report::Replacement;
use crate::text::{abridged, count};

/// The tree as the group changes it. The store's thread has the disk later: a slow one delays nobody's deliveries.
pub(crate) struct ReplicatedTree(pub(super) Arc<MemDb>);

impl TreeStore for ReplicatedTree {
    fn read<R>(&self, call: impl FnOnce(&Tree) -> R) -> R {
        call(&self.0.read())
    }

    fn change<R>(
        &mut self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        self.0.change(call)
    }

    fn deliver(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        caller: Option<Box<dyn Caller>>,
    ) -> Delivered {
        self.0.deliver(operation, stamp, now_secs, caller)
    }

    fn acknowledge(&mut self, ticket: Option<Ticket>, reply: Reply) {
        self.0.acknowledge(ticket, reply);
    }

    /// The one place where the group waits for this node's disk: a member must not call itself synced before it is.
    fn replace(&mut self, tree: Tree, touched: &BTreeSet<u64>, leader: u32) -> Result<(), String> {
        let replaced = tokio::task::block_in_place(|| self.0.replace_tree(tree, touched, leader));
        replaced.map_err(|error| format!("unable to store the leader's data: {error}"))
    }

    fn is_failed(&self) -> bool {
        self.0.is_failed()
    }
}

/// Brings the host's `corosync.conf` up to date, keeps the entries that a sync takes from this node in `discarded_dir`, and
/// tells `replaced` of them.
pub(super) fn notice_sink(
    distributor: Distributor,
    discarded_dir: PathBuf,
    replaced: Arc<Replacements>,
) -> NoticeSink {
    Box::new(move |notice| match notice {
        DatabaseNotice::CorosyncConf { reload } => distributor.changed(reload),
        DatabaseNotice::Replaced { discarded } => {
            distributor.changed(false);
            if !discarded.is_empty() {
                let (directory, replaced) = (discarded_dir.clone(), Arc::clone(&replaced));
                tokio::task::spawn_blocking(move || {
                    replaced.add(keep(&directory, &discarded));
                });
            }
        }
    })
}

/// The entries may be all that is left of an operator's work.
fn keep(directory: &Path, discarded: &[Discarded]) -> Replacement {
    let paths = discarded.iter();
    let paths: Vec<String> = paths
        .map(|entry| entry.path.escape_ascii().to_string())
        .collect();
    tracing::warn!(
        "{} replaced by the leader's version: {}",
        count(paths.len(), "entry"),
        abridged(&paths).join(", ")
    );
    let now_secs = wall_clock_secs();
    let saved = save_discarded(directory, discarded, now_secs);
    let saved = saved.unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "{error}");
        None
    });
    if let Some(saved) = &saved {
        tracing::warn!(
            kept = saved.kept_count,
            only_named = saved.left_out_count,
            "the replaced entries are kept in {}",
            saved.directory.display()
        );
    }
    Replacement {
        at_secs: now_secs,
        paths,
        directory: saved.map(|saved| saved.directory.display().to_string()),
    }
}
