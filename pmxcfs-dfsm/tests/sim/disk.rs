//! What a daemon of the simulation keeps over its death.

use std::collections::BTreeSet;

use pmxcfs_api_types::FsError;
use pmxcfs_dfsm::database::TreeStore;
use pmxcfs_memdb::store::Ticket;
use pmxcfs_memdb::{
    Caller, Change, Delivered, Entry, Operation, ROOT_INODE, Reply, RootState, Rules, Stamp, Tree,
};

use super::client::Answers;

/// A tree at rest.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    root: RootState,
    entries: Vec<Entry>,
}

impl Saved {
    /// A new database. Its root has the time of creation, as after a restart of the daemon that made it.
    pub(crate) fn fresh(mtime: u32) -> Self {
        let root = RootState {
            version: 1,
            writer: 0,
            mtime,
        };
        Self {
            root,
            entries: Vec::new(),
        }
    }

    pub(crate) fn of(tree: &Tree) -> Self {
        let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
        Self {
            root: tree.root(),
            entries: entries.cloned().collect(),
        }
    }

    pub(crate) fn load(&self, now_secs: u64) -> Tree {
        let entries = self.entries.iter().cloned();
        Tree::from_entries(self.root, entries, Rules::Replicated, now_secs)
            .expect("what a member held loads again")
    }
}

/// A tree whose every change is on disk at once, until the disk fails.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) tree: Tree,
    pub(crate) is_failed: bool,
    /// Changes that are still recorded before the disk fails.
    pub(crate) changes_left: Option<u32>,
    /// What the disk held when it failed.
    last_saved: Option<Saved>,
    /// Trees that replaced the former one: each takes as long as the host's disk is slow.
    pub(crate) replaced_count: u32,
    /// What was answered to the callers of the daemon.
    pub(crate) answers: Answers,
}

impl Disk {
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            tree,
            is_failed: false,
            changes_left: None,
            last_saved: None,
            replaced_count: 0,
            answers: Answers::default(),
        }
    }

    /// What a process that starts now finds.
    pub(crate) fn saved(&self) -> Saved {
        self.last_saved
            .clone()
            .unwrap_or_else(|| Saved::of(&self.tree))
    }

    pub(crate) fn fail(&mut self) {
        self.last_saved.get_or_insert_with(|| Saved::of(&self.tree));
        self.is_failed = true;
        self.changes_left = None;
    }

    pub(crate) fn mend(&mut self) {
        self.last_saved = None;
        self.is_failed = false;
        self.changes_left = None;
    }

    /// Makes another tree the present one, unless the disk has failed.
    pub(crate) fn store(&mut self, tree: Tree) -> Result<(), String> {
        if self.is_failed {
            return Err("no space on disk".to_owned());
        }
        self.replaced_count += 1;
        self.tree = tree;
        Ok(())
    }
}

impl TreeStore for Disk {
    fn read<R>(&self, call: impl FnOnce(&Tree) -> R) -> R {
        call(&self.tree)
    }

    fn change<R>(
        &mut self,
        call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R,
    ) -> (R, Option<Ticket>) {
        let before = (self.changes_left == Some(0)).then(|| Saved::of(&self.tree));
        let mut changes = Vec::new();
        let result = call(&mut self.tree, &mut changes);
        if !changes.is_empty()
            && let Some(left) = self.changes_left
        {
            self.changes_left = left.checked_sub(1);
            self.is_failed |= left == 0;
            if self.is_failed {
                self.last_saved = before;
            }
        }
        (result, None)
    }

    fn deliver(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
        now_secs: u64,
        caller: Option<Box<dyn Caller>>,
    ) -> Delivered {
        let ((result, reply), ticket) = self.change(|tree, changes| {
            let result = tree.apply(operation, stamp, now_secs, changes);
            let reply = caller.map(|caller| caller.answer(tree, changes, result));
            (result, reply)
        });
        let is_recorded = !self.is_failed;
        let answer = reply.map(|reply| {
            let reply: Reply = Box::new(move |_| {
                reply(is_recorded.then_some(()).ok_or(FsError::Io));
            });
            (reply, ticket)
        });
        Delivered { result, answer }
    }

    fn acknowledge(&mut self, _ticket: Option<Ticket>, reply: Reply) {
        reply(Ok(()));
    }

    fn replace(
        &mut self,
        mut tree: Tree,
        _touched: &BTreeSet<u64>,
        _leader: u32,
    ) -> Result<(), String> {
        if !self.is_failed {
            tree.adopt(&mut self.tree);
        }
        self.store(tree)
    }

    fn is_failed(&self) -> bool {
        self.is_failed
    }
}
