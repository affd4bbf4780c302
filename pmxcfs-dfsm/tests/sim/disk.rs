//! What a daemon of the simulation keeps over its death.

use pmxcfs_dfsm::database::TreeStore;
use pmxcfs_memdb::{Change, Entry, ROOT_INODE, RootState, Rules, Tree};

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
}

impl Disk {
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            tree,
            is_failed: false,
            changes_left: None,
            last_saved: None,
            replaced_count: 0,
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
    fn change<R>(&mut self, call: impl FnOnce(&mut Tree, &mut Vec<Change>) -> R) -> R {
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
        result
    }

    fn replace(&mut self, mut tree: Tree, _touched: &[u64]) -> Result<(), String> {
        if !self.is_failed {
            tree.adopt(&mut self.tree);
        }
        self.store(tree)
    }

    fn is_failed(&self) -> bool {
        self.is_failed
    }
}
