//! The checks before an operation is sent, or applied in local mode.
//!
//! These checks may use local knowledge; [`Tree::apply`] may not, since all nodes must decide alike there. A check refuses
//! an operation that harms C peers, or one beyond a limit that delivery cannot enforce, because C peers do not. Whether an
//! operation is possible at all is up to [`Tree::apply`], in its order of checks.

use pmxcfs_api_types::{
    FsError, Result, VmType,
    limits::{MAX_FILESYSTEM_SIZE, MAX_INODE_COUNT},
    path::{GuestConfig, components, is_lock_path, is_node_name, is_reserved_name, split},
};

use super::{Rules, Tree};
use crate::{
    content::Extent,
    entry::{EntryKind, ROOT_INODE},
    operation::Operation,
};

/// What to do with an operation that passed the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Precheck {
    /// Send or apply it.
    Proceed,
    /// Report success and send nothing: it changes nothing.
    NothingToDo,
    /// It would give an empty file a size without data, which kills C peers. Write this many zeros from offset 0 instead, in
    /// order, at most [`MAX_REQUEST_SIZE`](pmxcfs_api_types::limits::MAX_REQUEST_SIZE) bytes each.
    FillWithZeros {
        /// The new size in bytes.
        size: u32,
    },
}

impl Tree {
    /// Checks an operation before it is sent to the cluster, or applied in local mode.
    ///
    /// # Errors
    /// `TooBig` for a write beyond the largest file, added in 64 bits; `NoSpace` beyond the limits of the filesystem;
    /// `Invalid` for a name with a NUL byte and for a move of a directory into itself; `NotEmpty`, `NotDirectory`,
    /// `IsDirectory` and `Access` for operations that harm C peers.
    pub fn check_before_send(&self, operation: &Operation) -> Result<Precheck> {
        match operation {
            Operation::Mkdir { path } => {
                refuse_nul(path)?;
                self.refuse_directory_like_config(path)?;
                self.require_room_for_entry(path)?;
            }
            Operation::Create { path } => {
                refuse_nul(path)?;
                self.refuse_file_like_guest_directory(path)?;
                self.require_room_for_entry(path)?;
            }
            Operation::Write {
                path,
                offset,
                data,
                truncate,
            } => {
                let extent = Extent::new(*offset, data.len())?;
                refuse_nul(path)?;
                return self.check_write(path, extent, *truncate);
            }
            Operation::Rename { from, to } => {
                refuse_nul(from)?;
                refuse_nul(to)?;
                return self.check_rename(from, to);
            }
            Operation::Delete { path } | Operation::SetMtime { path, .. } => refuse_nul(path)?,
        }
        Ok(Precheck::Proceed)
    }

    /// C peers do not limit the filesystem's size, so delivery cannot. A file that grows without data would be a hole, which
    /// kills a C peer that reads or sends it.
    fn check_write(&self, path: &[u8], extent: Extent, truncate: bool) -> Result<Precheck> {
        let Some(entry) = self.lookup(path).filter(|entry| !entry.is_directory()) else {
            return Ok(Precheck::Proceed);
        };
        let outcome = extent.outcome(entry.held(), truncate);
        let grown = u64::from(outcome.size.saturating_sub(entry.size));
        if grown > 0 && self.size_total + grown > MAX_FILESYSTEM_SIZE {
            return Err(FsError::NoSpace);
        }
        if outcome.keep == 0 && extent.length == 0 && outcome.size > 0 {
            return Ok(Precheck::FillWithZeros { size: outcome.size });
        }
        Ok(Precheck::Proceed)
    }

    fn check_rename(&self, from: &[u8], to: &[u8]) -> Result<Precheck> {
        let Some(source) = self.resolve(from).filter(|inode| *inode != ROOT_INODE) else {
            return Ok(Precheck::Proceed);
        };
        let kind = self.kind(source);
        match kind {
            EntryKind::File => self.refuse_file_like_guest_directory(to)?,
            EntryKind::Directory if is_lock_path(from) => return Ok(Precheck::Proceed),
            EntryKind::Directory => self.refuse_directory_like_config(to)?,
        }
        match self.resolve(to) {
            None => self.refuse_bad_target(source, to)?,
            Some(ROOT_INODE) => {}
            Some(target) if target == source => return Ok(Precheck::NothingToDo),
            Some(target) => self.refuse_bad_replacement(source, target)?,
        }
        Ok(Precheck::Proceed)
    }

    /// C peers take `.` and `..` as target names and make a second entry of a name that is reached as `./x`; a directory
    /// that moves into itself makes them use freed memory.
    fn refuse_bad_target(&self, source: u64, to: &[u8]) -> Result<()> {
        let (directory, name) = split(to);
        if is_reserved_name(name) {
            return Err(FsError::Access);
        }
        let parent = self.resolve(directory);
        let is_taken = parent.is_some_and(|parent| self.child_inode(parent, name).is_some());
        let is_inside = parent == Some(source) && self.kind(source) == EntryKind::Directory;
        if is_taken || is_inside {
            return Err(FsError::Invalid);
        }
        Ok(())
    }

    /// C peers refuse to move a directory with entries only after its target has left their memory, and later cannot load
    /// their database. The kernel refuses to replace a file by a directory or the reverse, but may know an older state; a
    /// directory in the place of a config would leave the guest on the list.
    fn refuse_bad_replacement(&self, source: u64, target: u64) -> Result<()> {
        match (self.kind(source), self.kind(target)) {
            (EntryKind::File, EntryKind::Directory) => Err(FsError::IsDirectory),
            (EntryKind::Directory, EntryKind::File) => Err(FsError::NotDirectory),
            (EntryKind::Directory, EntryKind::Directory) if self.has_children(source) => {
                Err(FsError::NotEmpty)
            }
            _ => Ok(()),
        }
    }

    /// When a directory with the path of a guest config is removed, every C peer takes that id off its list, although a guest
    /// may have it; the id can then be used twice, and no node starts again. Local mode keeps such an id on the list.
    fn refuse_directory_like_config(&self, path: &[u8]) -> Result<()> {
        if self.rules == Rules::Replicated
            && GuestConfig::parse(path).is_some()
            && self.resolve(path).is_none()
        {
            let path = path.escape_ascii();
            tracing::debug!(%path, "refused a directory that is named like a guest's configuration");
            return Err(FsError::Access);
        }
        Ok(())
    }

    /// C daemons neither start nor complete a synchronisation when a guest directory of a node is a file.
    fn refuse_file_like_guest_directory(&self, path: &[u8]) -> Result<()> {
        if is_guest_directory(path) && self.resolve(path).is_none() {
            let path = path.escape_ascii();
            tracing::debug!(%path, "refused a file with the name of a guest directory: make the directory first");
            return Err(FsError::Access);
        }
        Ok(())
    }

    /// C peers do not limit the number of inodes, so delivery cannot.
    fn require_room_for_entry(&self, path: &[u8]) -> Result<()> {
        let is_possible = self.slot(path).is_ok_and(|slot| slot.occupant.is_none());
        if is_possible && self.count() >= MAX_INODE_COUNT {
            return Err(FsError::NoSpace);
        }
        Ok(())
    }
}

/// Paths travel as C strings: a NUL would cut the name.
fn refuse_nul(path: &[u8]) -> Result<()> {
    if path.contains(&0) {
        return Err(FsError::Invalid);
    }
    Ok(())
}

/// Whether a path is `nodes/NODE/DIR` with DIR one of the guest directories.
fn is_guest_directory(path: &[u8]) -> bool {
    let mut parts = components(path);
    parts.next() == Some(b"nodes")
        && parts.next().is_some_and(is_node_name)
        && parts
            .next()
            .is_some_and(|name| VmType::from_directory(name).is_some())
        && parts.next().is_none()
}
