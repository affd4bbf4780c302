//! Entries with their paths, also of databases whose rows make no tree.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::path::{components, is_reserved_name};
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE};

use crate::text;

/// The entries of a database in order of their places.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) items: Vec<Item<'a>>,
}

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) entry: &'a Entry,
    pub(super) place: Place<'a>,
}

/// Where an entry is. Paths are in the order of their names: a directory comes before its content, siblings are together, and
/// entries without a path come last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'a> {
    Path(Vec<&'a [u8]>),
    /// No path leads to this inode.
    Inode(u64),
}

impl<'a> View<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        let mut by_directory: HashMap<u64, Vec<&'a Entry>> = HashMap::new();
        for entry in entries {
            by_directory.entry(entry.parent).or_default().push(entry);
        }
        let mut items = Vec::with_capacity(entries.len());
        let mut add = |entry: &'a Entry, place| items.push(Item { entry, place });
        let mut waiting = vec![(ROOT_INODE, Vec::new())];
        while let Some((directory, path)) = waiting.pop() {
            for entry in by_directory.remove(&directory).into_iter().flatten() {
                if !is_usable(&entry.name) {
                    add(entry, Place::Inode(entry.inode));
                    continue;
                }
                let path = [&path[..], &[&entry.name[..]]].concat();
                if entry.is_directory() {
                    waiting.push((entry.inode, path.clone()));
                }
                add(entry, Place::Path(path));
            }
        }
        for entry in by_directory.into_values().flatten() {
            add(entry, Place::Inode(entry.inode));
        }
        items.sort_by(|a, b| a.place.cmp(&b.place));
        Self { items }
    }

    /// Keeps the entries at or below a path. Every spelling of the root keeps all.
    pub(super) fn below(&mut self, path: &[u8]) {
        let wanted: Vec<&[u8]> = components(path).collect();
        if wanted.is_empty() || wanted == [b"."] {
            return;
        }
        self.items.retain(|item| match &item.place {
            Place::Path(names) => names.starts_with(&wanted),
            Place::Inode(_) => false,
        });
    }
}

impl Item<'_> {
    /// The path by which programs find the entry, if they can.
    pub(super) fn path(&self) -> Option<Bytes> {
        match &self.place {
            Place::Path(names) => Some(names.join(&b'/').into()),
            Place::Inode(_) => None,
        }
    }

    /// The path in a printable form, with a slash behind a directory.
    pub(super) fn shown_path(&self) -> String {
        let slash = if self.entry.is_directory() { "/" } else { "" };
        match self.path() {
            Some(path) => format!("{}{slash}", text::escape_path(&path)),
            None => format!(
                "<unreachable, in inode {}>/{}{slash}",
                self.entry.parent,
                text::escape_name(&self.entry.name)
            ),
        }
    }
}

/// Whether a path can have this name in it.
fn is_usable(name: &[u8]) -> bool {
    !is_reserved_name(name) && !name.contains(&b'/') && !name.contains(&0)
}

/// The word for a kind of entry.
pub(super) const fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File => "file",
    }
}
