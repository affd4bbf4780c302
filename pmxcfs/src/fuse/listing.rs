//! Directory listings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{FileHandle, FileType, ReplyDirectory};
use pmxcfs_memdb::ROOT_INODE;

use super::attr::file_type;
use super::inodes::Node;
use super::shared::Shared;

/// First two positions in a listing are `.` and `..`.
const DOT_COUNT: u64 = 2;

impl Shared {
    /// Adds entries to a listing from `offset` on. Positions count `.`, `..`, the plugins of the root, then the listing.
    pub(super) fn fill_listing(
        &self,
        inode: u64,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) {
        let listing = if offset == 0 {
            let fresh = self.db.read().listing(inode).unwrap_or_default();
            self.handles.set_listing(handle, Arc::clone(&fresh));
            fresh
        } else {
            self.handles.listing(handle).unwrap_or_default()
        };
        let is_root = inode == ROOT_INODE;
        let number = self.inodes.number(Node::Tree(inode));
        let dots = [".", ".."]
            .into_iter()
            .map(|name| (number, FileType::Directory, name.as_bytes()));
        let plugin_count = if is_root { self.plugins.len() } else { 0 };
        let plugins = self
            .plugins
            .iter()
            .take(plugin_count)
            .enumerate()
            .map(|(index, plugin)| {
                let number = self.inodes.number(Node::Plugin(index));
                (number, plugin.file_type(), plugin.name().as_bytes())
            });
        let head_length = DOT_COUNT + plugin_count as u64;
        for (position, (number, kind, name)) in (1..).zip(dots.chain(plugins)) {
            if position > offset && reply.add(number, position, kind, OsStr::from_bytes(name)) {
                return;
            }
        }
        let skip = usize::try_from(offset.saturating_sub(head_length)).unwrap_or(usize::MAX);
        for (position, item) in (head_length + 1..).zip(listing.iter()).skip(skip) {
            if is_hidden(&item.name) || (is_root && self.plugins.find(&item.name).is_some()) {
                continue;
            }
            let number = self.inodes.number(Node::Tree(item.inode));
            if reply.add(
                number,
                position,
                file_type(item.kind),
                OsStr::from_bytes(&item.name),
            ) {
                return;
            }
        }
    }
}

/// Names that a listing cannot show; a database made by hand may hold them.
fn is_hidden(name: &[u8]) -> bool {
    matches!(name, b"." | b"..") || name.contains(&b'/')
}
