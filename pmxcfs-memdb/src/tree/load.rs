//! Building a tree from entries, at start and after a sync.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::path::LOCK_DIRECTORY;

use super::{Node, Rules, Tree};
use crate::checksum::HashedEntry;
use crate::entry::{Entry, EntryKind, ROOT_INODE, RootState};
use crate::finding::{Finding, Problem};

impl Tree {
    /// Builds a tree from entries in any order, the root not among them. What the database's rows must be like has been
    /// checked before. Locks are young from `now_secs` on (monotonic); every change counter becomes 1.
    ///
    /// Entries that no path leads to are kept, counted and hashed.
    ///
    /// # Errors
    /// What the entries have that no tree can have.
    pub fn from_entries(
        root: RootState,
        entries: impl IntoIterator<Item = Entry>,
        rules: Rules,
        now_secs: u64,
    ) -> Result<Self, Finding> {
        let nodes = entries.into_iter().map(|mut entry| {
            if !entry.data.is_empty() {
                entry.size = u32::try_from(entry.data.len()).unwrap_or(u32::MAX);
            }
            Node::new(entry)
        });
        Self::from_nodes(root, nodes, rules, now_secs)
    }

    /// The same from entries of another tree, whose digests are known.
    ///
    /// # Errors
    /// As [`Tree::from_entries`].
    pub fn from_hashed(
        root: RootState,
        entries: impl IntoIterator<Item = HashedEntry>,
        rules: Rules,
        now_secs: u64,
    ) -> Result<Self, Finding> {
        let nodes = entries.into_iter().map(Node::hashed);
        Self::from_nodes(root, nodes, rules, now_secs)
    }

    fn from_nodes(
        root: RootState,
        nodes: impl Iterator<Item = Node>,
        rules: Rules,
        now_secs: u64,
    ) -> Result<Self, Finding> {
        let mut tree = Self::new(root, rules);
        tree.keep(nodes)?;
        tree.attach_all()?;
        tree.mark_privacy();
        tree.scan_guests()?;
        tree.start_lock_ages(now_secs);
        tree.versions.bump_all();
        Ok(tree)
    }

    /// Goes on where a former tree of this process stopped, after a sync: change counters, version of the guest list and
    /// of guests, ages of the locks that are still in the state in which they were seen, open entries. What is open and
    /// no longer there becomes an orphan.
    ///
    /// The former tree loses what is open in it; it is meant to be dropped.
    pub fn adopt(&mut self, former: &mut Self) {
        self.versions = former.versions.clone();
        self.versions.bump_all();
        self.guests.adopt(&former.guests);
        self.locks.adopt(&former.locks);
        self.adopt_former(former);
        self.adopt_handles(former);
    }

    /// Collects all nodes in one go: a map that grows in order is half empty.
    fn keep(&mut self, nodes: impl Iterator<Item = Node>) -> Result<(), Finding> {
        let root = std::mem::take(&mut self.nodes).into_iter();
        let nodes = nodes.map(|node| {
            let entry = node.entry();
            self.size_total += u64::from(entry.size);
            (entry.inode, node)
        });
        let mut nodes: Vec<(u64, Node)> = root.chain(nodes).collect();
        nodes.sort_by_key(|(inode, _)| *inode);
        let mut pairs = nodes.windows(2);
        if let Some([_, (inode, node)]) = pairs.find(|pair| pair[0].0 == pair[1].0) {
            return Err(Finding {
                inode: *inode,
                name: node.entry().name.clone(),
                problem: Problem::DuplicateInode,
            });
        }
        self.nodes = nodes.into_iter().collect();
        Ok(())
    }

    /// Enters each entry in its directory, if that is one.
    fn attach_all(&mut self) -> Result<(), Finding> {
        let children: Vec<(u64, u64, Bytes)> = self
            .entries()
            .skip(1)
            .map(|entry| (entry.inode, entry.parent, entry.name.clone()))
            .collect();
        for (inode, parent, name) in children {
            let problem = match self.nodes.get_mut(&parent).map(|node| &mut node.directory) {
                None => Problem::MissingParent { parent },
                Some(None) => continue,
                Some(Some(directory)) => match directory.children.insert(name.clone(), inode) {
                    None => continue,
                    Some(other) => Problem::DuplicateName { parent, other },
                },
            };
            return Err(Finding {
                inode,
                name,
                problem,
            });
        }
        Ok(())
    }

    /// Tells every directory below the root what is private in it.
    fn mark_privacy(&mut self) {
        let mut directories: HashMap<u64, Vec<u64>> = HashMap::new();
        for entry in self.entries().skip(1).filter(|entry| entry.is_directory()) {
            let siblings = directories.entry(entry.parent).or_default();
            siblings.push(entry.inode);
        }
        let mut waiting = vec![ROOT_INODE];
        while let Some(inode) = waiting.pop() {
            let privacy = self.privacy(inode);
            for child in directories.remove(&inode).into_iter().flatten() {
                let node = self.node_mut(child);
                let privacy = privacy.map(|privacy| privacy.child(&node.entry().name));
                if let Some(directory) = &mut node.directory {
                    directory.privacy = privacy;
                }
                waiting.push(child);
            }
        }
    }

    fn start_lock_ages(&mut self, now_secs: u64) {
        let Some(directory) = self
            .resolve(LOCK_DIRECTORY)
            .and_then(|inode| self.directory(inode))
        else {
            return;
        };
        let locks: Vec<u64> = directory
            .children
            .values()
            .copied()
            .filter(|inode| self.kind(*inode) == EntryKind::Directory)
            .collect();
        for inode in locks {
            self.reset_lock(inode, now_secs);
        }
    }
}
