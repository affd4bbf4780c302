//! Requests with a handle, and those that give one: open, read, list, close.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pmxcfs_api_types::FsError;
use pmxcfs_memdb::{ROOT_INODE, Tree};

use super::attributes::Kind;
use super::filesystem::{Filesystem, directory};
use super::handles::{Bound, Handle};
use super::names::Want;
use super::node::{natural_id, plugin_id};
use super::plugins::Content;

/// Most bytes that a user other than root may have open in versions of files that are gone from the tree, listings, and texts
/// of generated files: all of it is memory that nothing but an open handle keeps.
const MAX_OPEN_BYTES: u64 = 64 * 1024 * 1024;

/// Is never refused for what it has open.
const ROOT_UID: u32 = 0;

/// One row of a listing.
#[derive(Debug)]
pub struct Listed<'a> {
    /// Node id that the name has as a rule.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'a [u8],
    /// Where the listing goes on behind it.
    pub next: u64,
}

impl Filesystem {
    /// Opens what a node id of the tree leads to.
    pub(super) fn open_name(&self, id: u64, uid: u32) -> Result<(u64, Bound), FsError> {
        self.db.with_pins(|tree| {
            self.check_room(tree, uid)?;
            let inode = self.names.target(tree, id, Want::Open)?;
            self.open_in(tree, id, inode, uid)
        })
    }

    /// Opens an inode by a node id, with the tree locked and without a look at what the user has open.
    pub(super) fn open_in(
        &self,
        tree: &mut Tree,
        id: u64,
        inode: u64,
        uid: u32,
    ) -> Result<(u64, Bound), FsError> {
        let bound = self.names.open(tree, id, inode, uid)?;
        let handle = self.handles.insert(uid, Handle::File { id, bound });
        Ok((handle, bound))
    }

    /// Opens a generated file; `is_to_be_cut` stands for `O_TRUNC`.
    pub(super) fn open_plugin(
        &self,
        index: usize,
        is_to_be_cut: bool,
        uid: u32,
    ) -> Result<u64, FsError> {
        self.check_room(&self.db.read(), uid)?;
        match self.plugin(index)?.content() {
            Content::File(file) => {
                if is_to_be_cut {
                    file.truncate()?;
                }
                let text = file.render();
                Ok(self.handles.insert(uid, Handle::Plugin { index, text }))
            }
            Content::Link(_) => Err(FsError::Access),
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`; `Stale` if the name has to be looked up first; `TooMuchOpen`.
    pub fn open_directory(&self, id: u64, uid: u32) -> Result<u64, FsError> {
        let id = directory(id)?;
        let bound = self.db.with_pins(|tree| {
            self.check_room(tree, uid)?;
            let inode = self.names.target(tree, id, Want::Open)?;
            self.names.open(tree, id, inode, uid)
        })?;
        let listing = Arc::from([]);
        let handle = Handle::Directory { id, bound, listing };
        Ok(self.handles.insert(uid, handle))
    }

    /// Bytes of memory that each user keeps by open handles: versions of files that were removed or replaced, listings, texts of
    /// generated files.
    #[must_use]
    pub fn open_bytes(&self) -> HashMap<u32, u64> {
        let mut bytes = self.handles.bytes();
        for (uid, orphans) in self.db.read().orphan_bytes() {
            *bytes.entry(uid).or_default() += orphans;
        }
        bytes
    }

    /// Whether a user may open anything more.
    fn check_room(&self, tree: &Tree, uid: u32) -> Result<(), FsError> {
        if uid != ROOT_UID
            && tree.orphan_bytes_of(uid) + self.handles.bytes_of(uid) > MAX_OPEN_BYTES
        {
            return Err(FsError::TooMuchOpen);
        }
        Ok(())
    }

    /// Ends what an open has begun.
    pub fn close(&self, handle: u64) {
        match self.handles.remove(handle) {
            Some((Handle::File { id, bound } | Handle::Directory { id, bound, .. }, uid)) => {
                self.names.closed(id);
                self.db.with_pins(|tree| tree.unpin(bound.inode, uid));
            }
            Some((Handle::Plugin { .. }, _)) | None => {}
        }
    }

    /// Up to `size` bytes of a file from `offset` on.
    ///
    /// # Errors
    /// `IsDirectory`; `Stale` if a synchronisation has given the file's inode to another one; `Io` for a number that is no
    /// handle.
    pub fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Bytes, FsError> {
        let content = match self.handles.get(handle)? {
            Handle::Plugin { text, .. } => text,
            Handle::File { bound, .. } => bound.entry(&self.db.read())?.content(),
            Handle::Directory { .. } => return Err(FsError::IsDirectory),
        };
        let start =
            usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
        let end = start.saturating_add(size as usize).min(content.len());
        Ok(content.slice(start..end))
    }

    /// Hands over the rows of a listing from `offset` on, until `is_full` says that there is no room for one. The listing is
    /// made at offset 0 and stays as it is for later calls.
    ///
    /// # Errors
    /// `NotDirectory` for a handle of something else.
    pub fn list(
        &self,
        handle: u64,
        offset: u64,
        mut is_full: impl FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let Ok(Handle::Directory { id, bound, listing }) = self.handles.get(handle) else {
            return Err(FsError::NotDirectory);
        };
        let listing = if offset == 0 {
            let fresh = self.db.read().listing(bound.inode).unwrap_or_default();
            self.handles.set_listing(handle, Arc::clone(&fresh));
            fresh
        } else {
            listing
        };
        let is_root = bound.inode == ROOT_INODE;
        // Rows count from 1: `.`, `..`, the plugins of the root, then what the tree has, shown or not.
        let dots = [".", ".."].map(|name| (id, Kind::Directory, name.as_bytes()));
        let plugins = self.plugins.iter().enumerate().filter(|_| is_root);
        let plugins =
            plugins.map(|(index, it)| (plugin_id(index), it.kind(), it.name().as_bytes()));
        let mut next = 0;
        for (id, kind, name) in dots.into_iter().chain(plugins) {
            next += 1;
            let row = Listed {
                id,
                kind,
                name,
                next,
            };
            if next > offset && is_full(&row) {
                return Ok(());
            }
        }
        let skipped = usize::try_from(offset.saturating_sub(next)).unwrap_or(usize::MAX);
        for (next, entry) in (next + 1..).zip(&listing[..]).skip(skipped) {
            if is_hidden(&entry.name) || (is_root && self.plugins.find(&entry.name).is_some()) {
                continue;
            }
            let row = Listed {
                id: natural_id(entry.inode),
                kind: entry.kind.into(),
                name: &entry.name,
                next,
            };
            if is_full(&row) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Names that a listing cannot show; a database made by hand may hold them.
fn is_hidden(name: &[u8]) -> bool {
    matches!(name, b"." | b"..") || name.contains(&b'/')
}
