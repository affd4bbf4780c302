//! Building a tree from entries, at start and after a sync.

use bytes::Bytes;
use pmxcfs_api_types::path::LOCK_DIRECTORY;

use super::{Node, Rules, Tree, TreeError, TreeWarning};
use crate::entry::{Entry, EntryKind, ROOT_INODE, RootState};

impl Tree {
    /// Builds a tree from entries in any order, the root not among them. What the database's rows must be like has been
    /// checked before. Locks are young from `now_secs` on (monotonic); every change counter becomes 1.
    ///
    /// Entries that no path leads to are kept, counted and hashed, and told by [`Tree::warnings`].
    ///
    /// # Errors
    /// What the entries have that no tree can have.
    pub fn from_entries(
        root: RootState,
        entries: impl IntoIterator<Item = Entry>,
        rules: Rules,
        now_secs: u64,
    ) -> Result<Self, TreeError> {
        let mut tree = Self::new(root, rules);
        for entry in entries {
            tree.keep(entry)?;
        }
        tree.attach_all()?;
        tree.mark_privacy();
        tree.warn_of_unreachable();
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

    fn keep(&mut self, mut entry: Entry) -> Result<(), TreeError> {
        let inode = entry.inode;
        if self.nodes.contains_key(&inode) {
            return Err(TreeError::DuplicateInode(inode));
        }
        if !entry.data.is_empty() {
            entry.size = u32::try_from(entry.data.len()).unwrap_or(u32::MAX);
        }
        self.size_total += u64::from(entry.size);
        self.nodes.insert(inode, Node::new(entry));
        Ok(())
    }

    /// Enters each entry in its directory, if that is one.
    fn attach_all(&mut self) -> Result<(), TreeError> {
        let children: Vec<(u64, u64, Bytes)> = self
            .entries()
            .skip(1)
            .map(|entry| (entry.inode, entry.parent, entry.name.clone()))
            .collect();
        for (inode, parent, name) in children {
            let Some(node) = self.nodes.get_mut(&parent) else {
                return Err(TreeError::MissingParent {
                    inode,
                    parent,
                    name,
                });
            };
            let Some(directory) = &mut node.directory else {
                continue;
            };
            if let Some(first) = directory.children.insert(name.clone(), inode) {
                return Err(TreeError::DuplicateName {
                    parent,
                    name,
                    first,
                    second: inode,
                });
            }
        }
        Ok(())
    }

    /// Tells every directory below the root what is private in it.
    fn mark_privacy(&mut self) {
        let mut waiting = vec![ROOT_INODE];
        while let Some(inode) = waiting.pop() {
            let Some((directory, privacy)) = self.directory(inode).zip(self.privacy(inode)) else {
                continue;
            };
            for child in directory.children.values().copied().collect::<Vec<_>>() {
                let Some(node) = self.nodes.get_mut(&child) else {
                    continue;
                };
                let privacy = privacy.child(&node.entry().name);
                if let Some(directory) = &mut node.directory {
                    directory.privacy = Some(privacy);
                    waiting.push(child);
                }
            }
        }
    }

    fn warn_of_unreachable(&mut self) {
        let unreachable = self
            .entries()
            .skip(1)
            .filter(|entry| self.privacy(entry.parent).is_none())
            .map(|entry| TreeWarning::Unreachable {
                inode: entry.inode,
                parent: entry.parent,
                name: entry.name.clone(),
            });
        self.warnings = unreachable.collect();
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
