//! Requests with a handle, and those that give one: open, read, list, close.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use pmxcfs_api_types::{FsError, Result};
use pmxcfs_memdb::{EntryKind, ListedEntry, ROOT_INODE, Tree};

use super::attributes::Kind;
use super::filesystem::{Filesystem, directory};
use super::handles::{Bound, Handle};
use super::node::{natural_id, plugin_id};
use super::plugins::Content;
use super::request_header::RequestHeader;
use super::ways::Want;

/// Most bytes that a user other than root may have open in versions of files that are gone from the tree, listings, and texts
/// of generated files: all of it is memory that nothing but an open handle keeps.
const MAX_OPEN_BYTES: u64 = 64 * 1024 * 1024;

/// Is never refused for what it has open.
const ROOT_UID: u32 = 0;

/// Where the rows of a directory's entries begin in a listing. Before them are `.`, `..` and the plugins, which count from 1.
const FIRST_ENTRY: u64 = 1 << 16;

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
    /// Opens what a node id of the tree leads to. A request that a former process has carried out gets what that has opened.
    pub(super) fn open_name(
        &self,
        request: RequestHeader,
        id: u64,
        kind: EntryKind,
    ) -> Result<(u64, Bound)> {
        if let Some((number, Handle::Entry { bound, .. })) = self.handles.opened_by(request) {
            return Ok((number, bound));
        }
        self.db.with_pins(|tree| {
            self.check_room(tree, request.uid)?;
            let inode = self.names.of(tree).target(tree, id, Want::Open)?;
            self.open_in(tree, request, id, inode, kind)
        })
    }

    /// Opens an inode by a node id, with the tree locked and without a look at what the user has open.
    pub(super) fn open_in(
        &self,
        tree: &mut Tree,
        request: RequestHeader,
        id: u64,
        inode: u64,
        kind: EntryKind,
    ) -> Result<(u64, Bound)> {
        let bound = self.names.open(tree, id, inode, request.uid)?;
        let handle = Handle::Entry {
            kind,
            id,
            bound,
            listing: None,
        };
        let entered = self.handles.insert(request, handle);
        if entered.is_err() {
            self.names.closed(id);
            tree.unpin(inode, request.uid);
        }
        Ok((entered?, bound))
    }

    /// Opens a generated file; `is_to_be_cut` stands for `O_TRUNC`.
    pub(super) fn open_plugin(
        &self,
        request: RequestHeader,
        index: usize,
        is_to_be_cut: bool,
    ) -> Result<u64> {
        if let Some((number, _)) = self.handles.opened_by(request) {
            return Ok(number);
        }
        self.check_room(&self.db.read(), request.uid)?;
        match &self.plugin(index)?.content {
            Content::File(file) => {
                if is_to_be_cut {
                    file.truncate()?;
                }
                let text = file.render();
                let handle = Handle::Plugin { index, text };
                self.handles.insert(request, handle)
            }
            Content::Link(_) => Err(FsError::Access),
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`; `Stale` if the name has to be looked up first; `TooMuchOpen`.
    pub fn open_directory(&self, request: RequestHeader, id: u64) -> Result<u64> {
        let opened = self.open_name(request, directory(id)?, EntryKind::Directory);
        opened.map(|(number, _bound)| number)
    }

    /// Bytes of memory that each user keeps by open handles: versions of files that were removed or replaced, listings, texts of
    /// generated files.
    pub fn open_bytes(&self) -> HashMap<u32, u64> {
        let mut bytes = self.handles.bytes();
        for (uid, orphans) in self.db.read().orphan_bytes() {
            *bytes.entry(uid).or_default() += orphans;
        }
        bytes
    }

    /// Whether a user may open anything more.
    fn check_room(&self, tree: &Tree, uid: u32) -> Result<()> {
        if uid != ROOT_UID
            && tree.orphan_bytes_of(uid) + self.handles.bytes_of(uid) > MAX_OPEN_BYTES
        {
            return Err(FsError::TooMuchOpen);
        }
        Ok(())
    }

    /// Ends what an open has begun.
    pub fn close(&self, handle: u64) {
        if let Some((handle, uid)) = self.handles.remove(handle)
            && let Some((id, bound)) = handle.name()
        {
            self.names.closed(id);
            self.db.with_pins(|tree| tree.unpin(bound.inode, uid));
        }
    }

    /// Up to `size` bytes of a file from `offset` on.
    ///
    /// # Errors
    /// `IsDirectory`; `Stale` if a synchronisation has given the file's inode to another one; `Io` for a number that is no
    /// handle.
    pub fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Bytes> {
        let content = match self.handles.get(handle)? {
            Handle::Plugin { text, .. } => text,
            Handle::Entry {
                kind: EntryKind::Directory,
                ..
            } => return Err(FsError::IsDirectory),
            Handle::Entry { bound, .. } => bound.entry(&self.db.read())?.content(),
        };
        let start =
            usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
        let end = start.saturating_add(size as usize).min(content.len());
        Ok(content.slice(start..end))
    }

    /// Hands over the rows of a listing from `offset` on, until `is_full` says that there is no room for one. The listing is
    /// made at offset 0 and stays as it is for later calls. Entries come in the order of their inodes, and their offsets are made
    /// of these: a listing that another process has begun goes on behind the same entry, whatever came and went meanwhile.
    ///
    /// # Errors
    /// `NotDirectory` for a handle of something else.
    pub fn list(
        &self,
        handle: u64,
        offset: u64,
        mut is_full: impl FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        let Ok(Handle::Entry {
            kind: EntryKind::Directory,
            id,
            bound,
            listing,
        }) = self.handles.get(handle)
        else {
            return Err(FsError::NotDirectory);
        };
        let listing = match listing.filter(|_| offset > 0) {
            Some(listing) => listing,
            None => {
                let fresh = self.db.read().listing(bound.inode).unwrap_or_default();
                self.handles.set_listing(handle, Arc::clone(&fresh));
                fresh
            }
        };
        let is_root = bound.inode == ROOT_INODE;
        let dots = [".", ".."].map(|name| (id, Kind::Directory, name.as_bytes()));
        let plugins = self.plugins.iter().enumerate().filter(|_| is_root);
        let plugins = plugins.map(|(index, it)| (plugin_id(index), it.kind(), it.name.as_bytes()));
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
        let shown_count = listing.partition_point(|entry| place(entry) <= offset);
        for entry in &listing[shown_count..] {
            if is_hidden(&entry.name) || (is_root && self.plugins.find(&entry.name).is_some()) {
                continue;
            }
            let row = Listed {
                id: natural_id(entry.inode),
                kind: entry.kind.into(),
                name: &entry.name,
                next: place(entry),
            };
            if is_full(&row) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Where an entry is in a listing, above 0 as a signed number: the kernel's offsets are signed.
fn place(entry: &ListedEntry) -> u64 {
    let place = FIRST_ENTRY.saturating_add(entry.inode);
    place.min(i64::MAX.cast_unsigned())
}

/// Names that a listing cannot show; a database made by hand may hold them.
fn is_hidden(name: &[u8]) -> bool {
    matches!(name, b"." | b"..") || name.contains(&b'/')
}
