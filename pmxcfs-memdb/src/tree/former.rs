//! Contents and paths before a change, for a history.
//!
//! A history that begins names the files whose content it knows; it gets the content of every other file with that file's
//! first change. It gets the last content of every removed file, since a commit may never have seen it, and the
//! former path of every entry that moves. All other contents change in place, without a copy.

use std::collections::BTreeSet;
use std::mem;

use super::Tree;
use crate::entry::{Entry, EntryKind};
use crate::store::{Former, FormerKind};

impl Tree {
    /// From now on sets aside the contents of removed files, and before their first change those of the present files that are
    /// not known.
    pub(crate) fn want_former(&mut self, is_known: impl Fn(u64) -> bool) {
        let files = self.entries().filter(|entry| !entry.is_directory());
        let inodes = files.map(|entry| entry.inode);
        let inodes = inodes.filter(|inode| !is_known(*inode)).collect();
        self.former.is_wanted = true;
        self.former.inodes = inodes;
    }

    /// Takes what was set aside.
    pub(crate) fn take_former(&mut self) -> Vec<Former> {
        mem::take(&mut self.former.taken)
    }

    /// The contents of these inodes, as far as they are wanted: another tree replaces this one.
    pub(crate) fn former_of(&self, inodes: &BTreeSet<u64>) -> Vec<Former> {
        let wanted = |inode: &&u64| self.former.inodes.contains(inode);
        let found = inodes.iter().filter(wanted);
        let found =
            found.filter_map(|inode| Some(former(self.entry(*inode)?, FormerKind::Content)));
        found.collect()
    }

    /// A file is about to be written to.
    pub(super) fn keep_former(&mut self, inode: u64) {
        if self.former.inodes.remove(&inode)
            && let Some(node) = self.nodes.get(&inode)
        {
            let content = former(node.entry(), FormerKind::Content);
            self.former.taken.push(content);
        }
    }

    /// An entry is about to be removed.
    pub(super) fn keep_last(&mut self, inode: u64) {
        if self.former.is_wanted
            && let Some(node) = self.nodes.get(&inode)
            && node.entry().kind == EntryKind::File
        {
            self.former.inodes.remove(&inode);
            let content = former(node.entry(), FormerKind::LastContent);
            self.former.taken.push(content);
        }
    }

    /// An entry is about to move.
    pub(super) fn keep_path(&mut self, inode: u64) {
        if self.former.is_wanted
            && let Some(data) = self.path_of(inode)
        {
            let kind = FormerKind::Path;
            self.former.taken.push(Former { inode, kind, data });
        }
    }

    /// Goes on with what was wanted of a former tree.
    pub(super) fn adopt_former(&mut self, former: &mut Self) {
        self.former = mem::take(&mut former.former);
    }
}

fn former(entry: &Entry, kind: FormerKind) -> Former {
    Former {
        inode: entry.inode,
        kind,
        data: entry.content(),
    }
}
