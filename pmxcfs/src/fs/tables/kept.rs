//! What only open handles keep, handed over in a planned change.
//!
//! Behind the tables lie items, one after the other, each with its length in bytes (`u32`) and its kind (`u8`), numbers in little
//! endian, bytes with their lengths (`u32`):
//!
//! | kind | what | content |
//! |---|---|---|
//! | 1 | text of a generated file | handle `u64`, bytes |
//! | 2 | listing of a directory | handle `u64`, then for each row inode `u64`, `d_type` `u8`, name |
//! | 3 | an entry that has left the tree | inode, directory, version `u64`; writer, mtime, size `u32`; `d_type`, whether it is private `u8`; name, content |
//!
//! Two words of the header say that they are there: a commit word with the checksum of all, and their length.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use nix::fcntl::{FallocateFlags, fallocate};
use pmxcfs_memdb::{Entry, EntryKind, ListedEntry};

use super::layout::{KEPT_AT, KEPT_SIZE, MAPPED_SIZE};
use super::memory::Memory;
use super::slots::commit_word;

const TEXT: u8 = 1;
const LISTING: u8 = 2;
const ORPHAN: u8 = 3;

/// Bytes before an item.
const LENGTH_SIZE: u64 = 4;

/// Where the items begin in the file.
const START: u64 = MAPPED_SIZE as u64;

/// What only open handles keep.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::fs) struct Kept {
    /// Texts of generated files, by handle.
    pub(in crate::fs) texts: HashMap<u64, Bytes>,
    /// Listings, by handle.
    pub(in crate::fs) listings: HashMap<u64, Arc<[ListedEntry]>>,
    /// Entries that have left the tree, by inode.
    pub(in crate::fs) orphans: HashMap<u64, Orphan>,
}

/// An entry that has left the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fs) struct Orphan {
    pub(in crate::fs) entry: Entry,
    pub(in crate::fs) is_private: bool,
}

/// Where it is kept.
#[derive(Debug)]
pub(in crate::fs) struct KeptArea(Arc<Memory>);

impl KeptArea {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self(memory)
    }

    /// What a former process has handed over: nothing if it was killed, or did not come to the end.
    pub(super) fn read(&self) -> io::Result<Kept> {
        let (commit, length) = (self.0.load(KEPT_AT), self.0.load(KEPT_AT + 1));
        if commit == 0 || length > KEPT_SIZE {
            return Ok(Kept::default());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file()?.read_exact_at(&mut bytes, START)?;
        if commit != commit_word([length], &bytes) {
            return Ok(Kept::default());
        }
        Ok(Kept::decode(&bytes).unwrap_or_default())
    }

    /// Keeps this for the next process. What there is no room for is lost with this one.
    pub(in crate::fs) fn keep(&self, kept: &Kept) -> io::Result<()> {
        self.clear()?;
        let bytes = kept.encode();
        self.file()?.write_all_at(&bytes, START)?;
        let length = bytes.len() as u64;
        self.0.store(KEPT_AT + 1, length);
        self.0.commit(KEPT_AT, commit_word([length], &bytes));
        Ok(())
    }

    /// From now on nothing is kept, and takes no memory.
    pub(in crate::fs) fn clear(&self) -> io::Result<()> {
        self.0.clear(KEPT_AT);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let size = KEPT_SIZE.cast_signed();
        Ok(fallocate(self.0.file(), flags, START.cast_signed(), size)?)
    }

    fn file(&self) -> io::Result<File> {
        Ok(self.0.file().try_clone_to_owned()?.into())
    }
}

impl Kept {
    fn encode(&self) -> BytesMut {
        let mut all = BytesMut::new();
        for (handle, text) in &self.texts {
            add_item(&mut all, TEXT, |item| {
                item.put_u64_le(*handle);
                put_bytes(item, text);
            });
        }
        for (handle, listing) in &self.listings {
            add_item(&mut all, LISTING, |item| {
                item.put_u64_le(*handle);
                for row in listing.iter() {
                    item.put_u64_le(row.inode);
                    item.put_u8(row.kind as u8);
                    put_bytes(item, &row.name);
                }
            });
        }
        for Orphan { entry, is_private } in self.orphans.values() {
            add_item(&mut all, ORPHAN, |item| {
                for number in [entry.inode, entry.parent, entry.version] {
                    item.put_u64_le(number);
                }
                for number in [entry.writer, entry.mtime, entry.size] {
                    item.put_u32_le(number);
                }
                item.put_u8(entry.kind as u8);
                item.put_u8((*is_private).into());
                put_bytes(item, &entry.name);
                put_bytes(item, &entry.data);
            });
        }
        all
    }

    /// `None` if this is nothing that [`Kept::encode`] makes.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut kept = Self::default();
        while !bytes.is_empty() {
            let length = bytes.try_get_u32_le().ok()?;
            let (mut item, rest) = bytes.split_at_checked(length as usize)?;
            bytes = rest;
            kept.decode_item(&mut item)?;
        }
        Some(kept)
    }

    fn decode_item(&mut self, item: &mut &[u8]) -> Option<()> {
        let kind = item.try_get_u8().ok()?;
        let number = item.try_get_u64_le().ok()?;
        match kind {
            TEXT => {
                let text = bytes_of(item)?;
                self.texts.insert(number, text);
            }
            LISTING => {
                let mut rows = Vec::new();
                while !item.is_empty() {
                    rows.push(ListedEntry {
                        inode: item.try_get_u64_le().ok()?,
                        kind: kind_of(item)?,
                        name: bytes_of(item)?,
                    });
                }
                self.listings.insert(number, rows.into());
            }
            ORPHAN => {
                let mut entry = Entry {
                    inode: number,
                    parent: item.try_get_u64_le().ok()?,
                    version: item.try_get_u64_le().ok()?,
                    writer: item.try_get_u32_le().ok()?,
                    mtime: item.try_get_u32_le().ok()?,
                    size: item.try_get_u32_le().ok()?,
                    kind: kind_of(item)?,
                    name: Bytes::new(),
                    data: Bytes::new(),
                };
                let is_private = item.try_get_u8().ok()? != 0;
                entry.name = bytes_of(item)?;
                entry.data = bytes_of(item)?;
                self.orphans.insert(number, Orphan { entry, is_private });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Adds an item, if there is room for it.
fn add_item(all: &mut BytesMut, kind: u8, fill: impl FnOnce(&mut BytesMut)) {
    let mut item = BytesMut::new();
    item.put_u8(kind);
    fill(&mut item);
    if (all.len() + item.len()) as u64 <= KEPT_SIZE - LENGTH_SIZE {
        put_bytes(all, &item);
    }
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("nothing that is open is that large");
    to.put_u32_le(length);
    to.put_slice(bytes);
}

fn bytes_of(item: &mut &[u8]) -> Option<Bytes> {
    let length = item.try_get_u32_le().ok()?;
    let (bytes, rest) = item.split_at_checked(length as usize)?;
    *item = rest;
    Some(Bytes::copy_from_slice(bytes))
}

fn kind_of(item: &mut &[u8]) -> Option<EntryKind> {
    EntryKind::try_from(item.try_get_u8().ok()?).ok()
}
