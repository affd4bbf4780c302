//! Moving an entry.
//!
//! Rules beyond those of other operations: only files and empty directories move; what is at the target is replaced,
//! whatever its type; the guest list follows files.

use bytes::Bytes;
use pmxcfs_api_types::{
    FsError, Result,
    path::{GuestConfig, is_lock_path},
};

use super::{Rules, Tree};
use crate::{
    change::Change,
    entry::{EntryKind, ROOT_INODE},
    operation::Stamp,
};

/// Where a rename leads to.
struct Target {
    parent: u64,
    name: Bytes,
    /// The entry that has the name, and will be replaced.
    taken: Option<u64>,
}

impl Tree {
    pub(super) fn rename(
        &mut self,
        from: &[u8],
        to: &[u8],
        stamp: Stamp,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let source = self.resolve(from).ok_or(FsError::NotFound)?;
        if source == ROOT_INODE {
            return Err(FsError::Access);
        }
        let is_file = self.kind(source) == EntryKind::File;
        let (from_config, to_config) = (GuestConfig::parse(from), GuestConfig::parse(to));
        if is_file && self.is_refused_config(from_config.as_ref(), to_config.as_ref()) {
            return Err(FsError::Exists);
        }
        if !is_file && is_lock_path(from) {
            return Err(FsError::Access);
        }
        let target = self.target(to)?;
        if target.taken == Some(source) {
            return Ok(());
        }
        self.refuse_full_source(source, from, to, &target, changes)?;
        if !is_file && target.parent == source {
            return Err(FsError::Invalid);
        }

        self.step(stamp)?;
        self.versions.bump(from);
        self.versions.bump(to);
        self.move_entry(source, target, stamp, changes);
        if is_file {
            if let Some(config) = from_config {
                self.guests.remove(config.vmid);
            }
            if let Some(config) = to_config {
                self.guests.register(&config);
            }
        }
        Ok(())
    }

    /// Whether a file may not become this guest config, since its id belongs to another node or kind of guest. Moving a
    /// guest's own config is how a guest moves, so that is allowed.
    fn is_refused_config(
        &self,
        from: Option<&GuestConfig<'_>>,
        to: Option<&GuestConfig<'_>>,
    ) -> bool {
        to.is_some_and(|to| {
            self.guests.list.is_taken(to) && from.is_none_or(|from| from.vmid != to.vmid)
        })
    }

    /// What is at the target path. A path like `./x` is found by no lookup, although its directory and base name may lead
    /// to an entry: C peers then have two entries of one name, and databases that do not load.
    fn target(&self, to: &[u8]) -> Result<Target> {
        match self.resolve(to) {
            Some(ROOT_INODE) => Err(FsError::Access),
            Some(inode) if self.has_children(inode) => Err(FsError::NotEmpty),
            Some(inode) => {
                let entry = self.nodes[&inode].entry();
                Ok(Target {
                    parent: entry.parent,
                    name: entry.name.clone(),
                    taken: Some(inode),
                })
            }
            None => {
                let slot = self.slot(to)?;
                if slot.occupant.is_some() {
                    return Err(FsError::Invalid);
                }
                Ok(Target {
                    parent: slot.parent,
                    name: Bytes::copy_from_slice(slot.name),
                    taken: None,
                })
            }
        }
    }

    /// Refuses to move a directory with entries. C peers notice that last, when the counters have moved and the target
    /// is gone from their memory; among them it has to go here as well, or the trees part.
    fn refuse_full_source(
        &mut self,
        source: u64,
        from: &[u8],
        to: &[u8],
        target: &Target,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let child_count = self
            .directory(source)
            .map_or(0, |directory| directory.children.len());
        let goes_first = target.taken.is_some() && target.parent == source;
        if child_count == usize::from(goes_first) {
            return Ok(());
        }
        self.versions.bump(from);
        self.versions.bump(to);
        if let Some(inode) = target.taken
            && self.rules == Rules::Replicated
        {
            self.remove(inode, changes);
        }
        Err(FsError::NotEmpty)
    }

    fn move_entry(&mut self, source: u64, target: Target, stamp: Stamp, changes: &mut Vec<Change>) {
        if let Some(inode) = target.taken {
            self.remove(inode, changes);
        }
        self.keep_path(source);
        self.detach(source);
        let entry = self.mark(source, stamp);
        entry.parent = target.parent;
        entry.name = target.name;
        self.attach(source);
        changes.push(Change::Put { inode: source });
    }
}
