//! The rows of a database in memory, and where rows go that cannot stay where they are.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::super::database::schema::{VERSION_ROW_KIND, VERSION_ROW_NAME};
use super::super::database::{RawRow, Rows};
use crate::{Entry, EntryKind, RootState};

/// Where rows go that cannot stay where they are.
const RECOVERY_DIRECTORY: &[u8] = b"priv";

/// Longest part of a name that is kept, in bytes.
const KEPT_NAME_LENGTH: usize = 200;

/// The number at which a version cannot go on.
const EXHAUSTED: i64 = i64::MAX - 1;

/// Rows by their inodes, in row order.
#[derive(Debug, Default)]
pub(in super::super) struct Table {
    pub(in super::super) rows: BTreeMap<i64, RawRow>,
    /// The highest inode or version in use, apart from those that leave nothing to count.
    highest: i64,
    recovery: Option<RecoveryDirectory>,
}

/// Found once, and not by looking through all rows for each that is moved.
#[derive(Debug)]
struct RecoveryDirectory {
    inode: i64,
    names: HashSet<Bytes>,
}

impl Table {
    pub(in super::super) fn new(rows: impl IntoIterator<Item = RawRow>) -> Self {
        let mut table = Self::default();
        for row in rows {
            table.insert(row);
        }
        table
    }

    /// Puts a row in, in place of the one with its inode.
    pub(in super::super) fn insert(&mut self, row: RawRow) {
        let numbers = [Some(row.inode), row.version];
        let usable = numbers.into_iter().flatten().filter(|n| *n < EXHAUSTED);
        self.highest = usable.fold(self.highest.max(1), i64::max);
        self.rows.insert(row.inode, row);
    }

    /// Entries and faults of all rows.
    pub(super) fn sorted(&self) -> Rows {
        self.rows.values().cloned().collect()
    }

    pub(super) fn put_entry(&mut self, entry: &Entry) {
        self.insert(RawRow {
            inode: entry.inode.cast_signed(),
            parent: Some(entry.parent.cast_signed()),
            version: Some(entry.version.cast_signed()),
            writer: Some(entry.writer.into()),
            mtime: Some(entry.mtime.into()),
            kind: Some(entry.kind as i64),
            name: entry.name.clone(),
            data: entry.data.clone(),
        });
    }

    /// Writes the version row.
    pub(super) fn put_root(&mut self, root: RootState) {
        self.insert(RawRow {
            parent: Some(0),
            version: Some(root.version.cast_signed()),
            writer: Some(root.writer.into()),
            mtime: Some(root.mtime.into()),
            kind: Some(VERSION_ROW_KIND),
            name: Bytes::from_static(VERSION_ROW_NAME.as_bytes()),
            ..RawRow::default()
        });
    }

    /// The row that a finding is about.
    pub(super) fn row(&mut self, inode: u64) -> &mut RawRow {
        let inode = inode.cast_signed();
        self.rows.entry(inode).or_insert_with(|| RawRow {
            inode,
            ..RawRow::default()
        })
    }

    pub(super) fn has_data(&self, inode: u64) -> bool {
        let row = self.rows.get(&inode.cast_signed());
        row.is_some_and(|row| !row.data.is_empty())
    }

    /// Rows may have changed that say where the recovery directory is and what it holds.
    pub(super) fn forget_recovery_directory(&mut self) {
        self.recovery = None;
    }

    /// A number above all that are in use and can be counted on from.
    pub(super) fn next_number(&mut self) -> i64 {
        self.highest += 1;
        self.highest
    }

    pub(super) fn highest_number(&self) -> i64 {
        self.highest
    }

    /// Takes the content off a row that cannot have one and makes it a file in the recovery directory. Returns where.
    pub(super) fn detach_data(&mut self, inode: u64, name: &[u8]) -> Option<String> {
        if !self.has_data(inode) {
            return None;
        }
        let data = std::mem::take(&mut self.row(inode).data);
        let (directory, name) = self.reserve(inode, name);
        let number = self.next_number();
        let path = shown_path(&name);
        self.make(number, directory, EntryKind::File, name);
        self.row(number.cast_unsigned()).data = data;
        Some(path)
    }

    /// Moves a row to the recovery directory. Returns its new path.
    pub(in super::super) fn move_away(&mut self, inode: u64, name: &[u8]) -> String {
        let (directory, name) = self.reserve(inode, name);
        let path = shown_path(&name);
        let row = self.row(inode);
        row.parent = Some(directory);
        row.name = name;
        path
    }

    /// Of two rows, the one that was changed earlier; made earlier, if that does not decide. Never a directory that rows
    /// could be moved to in favour of a file.
    pub(super) fn older(&self, first: u64, second: u64) -> u64 {
        let rank = |inode: u64| {
            let row = self.rows.get(&inode.cast_signed());
            let is_recovery = row.is_some_and(is_recovery_directory);
            (
                is_recovery,
                row.and_then(|row| row.version),
                inode.cast_signed(),
            )
        };
        std::cmp::min_by_key(first, second, |inode| rank(*inode))
    }

    /// Gives an inode a new number, in its row and in those of its children. Returns it.
    pub(super) fn renumber(&mut self, inode: u64) -> i64 {
        let number = self.next_number();
        let old = inode.cast_signed();
        if let Some(mut row) = self.rows.remove(&old) {
            row.inode = number;
            row.version = Some(number);
            self.insert(row);
        }
        for row in self.rows.values_mut() {
            if row.parent == Some(old) {
                row.parent = Some(number);
            }
        }
        number
    }

    /// A name in the recovery directory that nothing else gets, and the directory's inode. It is never `moved`, which is
    /// one of the rows without a place, and it is private, whatever was private among them.
    fn reserve(&mut self, moved: u64, name: &[u8]) -> (i64, Bytes) {
        let known = self.recovery.take();
        let mut directory = known
            .filter(|directory| directory.inode != moved.cast_signed())
            .unwrap_or_else(|| self.find_recovery_directory(moved.cast_signed()));
        let first = recovered_name(moved, name);
        let mut candidate = first.clone();
        let mut attempt = 1_u64;
        while directory.names.contains(&candidate[..]) {
            attempt += 1;
            candidate.clone_from(&first);
            candidate.extend_from_slice(format!(".{attempt}").as_bytes());
        }
        let name = Bytes::from(candidate);
        directory.names.insert(name.clone());
        let inode = directory.inode;
        self.recovery = Some(directory);
        (inode, name)
    }

    fn find_recovery_directory(&mut self, moved: i64) -> RecoveryDirectory {
        let candidates = self.rows.values();
        let found = candidates
            .filter(|row| row.inode != moved && is_recovery_directory(row))
            .max_by_key(|row| (row.version, row.inode));
        let inode = match found {
            Some(row) => row.inode,
            None => self.make_recovery_directory(),
        };
        let children = self.rows.values();
        let children = children.filter(|row| row.parent == Some(inode));
        RecoveryDirectory {
            inode,
            names: children.map(|row| row.name.clone()).collect(),
        }
    }

    fn make_recovery_directory(&mut self) -> i64 {
        let inode = self.next_number();
        let name = Bytes::from_static(RECOVERY_DIRECTORY);
        self.make(inode, 0, EntryKind::Directory, name);
        inode
    }

    /// Adds a row with a number that is not in use.
    fn make(&mut self, inode: i64, parent: i64, kind: EntryKind, name: Bytes) {
        self.insert(RawRow {
            inode,
            parent: Some(parent),
            version: Some(inode),
            writer: Some(0),
            mtime: Some(0),
            kind: Some(kind as i64),
            name,
            ..RawRow::default()
        });
    }
}

fn is_recovery_directory(row: &RawRow) -> bool {
    row.inode != 0
        && row.parent == Some(0)
        && row.kind.map(|kind| kind & 0xff) == Some(EntryKind::Directory as i64)
        && row.name == RECOVERY_DIRECTORY
}

/// `recovered-INODE-NAME`, with what cannot be in a name left out.
fn recovered_name(inode: u64, name: &[u8]) -> Vec<u8> {
    let mut recovered = format!("recovered-{inode}").into_bytes();
    if !matches!(name, b"" | b"." | b"..") {
        recovered.push(b'-');
        let kept = name.iter().take(KEPT_NAME_LENGTH);
        recovered.extend(kept.map(|byte| match byte {
            b'/' | 0 => b'_',
            byte => *byte,
        }));
    }
    recovered
}

fn shown_path(name: &[u8]) -> String {
    format!(
        "{}/{}",
        RECOVERY_DIRECTORY.escape_ascii(),
        name.escape_ascii()
    )
}
