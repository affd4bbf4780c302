//! Entries with their paths, also of databases whose rows make no tree.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use pmxcfs_api_types::path::is_reserved_name;
use pmxcfs_memdb::{Entry, EntryKind, ROOT_INODE};

use crate::text;

/// The entries of a database in order of their paths, those without one behind.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) items: Vec<Item<'a>>,
}

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) entry: &'a Entry,
    /// Where programs find it; absent if they cannot.
    pub(super) path: Option<Bytes>,
}

impl<'a> View<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        let mut paths = Paths::new(entries);
        let mut items: Vec<Item<'a>> = entries
            .iter()
            .map(|entry| Item {
                entry,
                path: paths.of(entry),
            })
            .collect();
        items.sort_by_cached_key(Item::key);
        Self { items }
    }

    /// Keeps the entries at or below a path. Every spelling of the root keeps all.
    pub(super) fn below(&mut self, path: &[u8]) {
        let wanted = pmxcfs_api_types::path::components(path).map(Bytes::copy_from_slice);
        let wanted = wanted.collect::<Vec<_>>();
        if wanted.is_empty() || wanted == ["."] {
            return;
        }
        self.items.retain(|item| match item.key() {
            Key::Path(parts) => parts.starts_with(&wanted),
            Key::Inode(_) => false,
        });
    }
}

/// The place of an entry in the order of paths, by components: a directory comes before its content, siblings are together,
/// and entries without a path come last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Path(Vec<Bytes>),
    /// No path leads to it.
    Inode(u64),
}

impl Item<'_> {
    pub(super) fn key(&self) -> Key {
        match &self.path {
            Some(path) => {
                let parts = path.split(|byte| *byte == b'/');
                Key::Path(parts.map(|part| path.slice_ref(part)).collect())
            }
            None => Key::Inode(self.entry.inode),
        }
    }

    /// The path for people, with a slash behind directories.
    pub(super) fn shown_path(&self) -> String {
        let slash = if self.entry.is_directory() { "/" } else { "" };
        match &self.path {
            Some(path) => format!("{}{slash}", text::escape_path(path)),
            None => format!(
                "<unreachable, in inode {}>/{}{slash}",
                self.entry.parent,
                text::escape_name(&self.entry.name)
            ),
        }
    }
}

/// The kind of an entry in one word.
pub(super) const fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File => "file",
    }
}

struct Paths<'a> {
    by_inode: HashMap<u64, &'a Entry>,
    known: HashMap<u64, Option<Bytes>>,
}

impl<'a> Paths<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self {
            by_inode: entries.iter().map(|entry| (entry.inode, entry)).collect(),
            known: HashMap::from([(ROOT_INODE, Some(Bytes::new()))]),
        }
    }

    fn of(&mut self, entry: &Entry) -> Option<Bytes> {
        let parent = self.of_directory(entry.parent)?;
        join(&parent, &entry.name)
    }

    /// Path of a directory. Goes up to one that is known and comes back, so that depth costs no stack.
    fn of_directory(&mut self, inode: u64) -> Option<Bytes> {
        let mut chain = Vec::new();
        let mut at = inode;
        let mut path = loop {
            if let Some(known) = self.known.get(&at) {
                break known.clone();
            }
            match self.by_inode.get(&at) {
                Some(entry) if entry.is_directory() => {
                    // Whoever comes here again goes in a circle.
                    self.known.insert(at, None);
                    chain.push(*entry);
                    at = entry.parent;
                }
                _ => break None,
            }
        };
        for entry in chain.into_iter().rev() {
            path = path.and_then(|parent| join(&parent, &entry.name));
            self.known.insert(entry.inode, path.clone());
        }
        path
    }
}

fn join(parent: &[u8], name: &[u8]) -> Option<Bytes> {
    if is_reserved_name(name) || name.contains(&b'/') || name.contains(&0) {
        return None;
    }
    let mut path = BytesMut::with_capacity(parent.len() + 1 + name.len());
    path.put_slice(parent);
    if !parent.is_empty() {
        path.put_u8(b'/');
    }
    path.put_slice(name);
    Some(path.freeze())
}
