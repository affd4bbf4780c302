//! Reads rows out of the pages of a database file, without SQLite.
//!
//! Every page that looks like a leaf of a table is read, whether or not anything leads to it, but for those on the list of
//! free pages. Nothing that a page says is trusted: a length or a number that cannot be gives up a row, not the file.
//!
//! Bytes, all numbers big-endian ([file format](https://www.sqlite.org/fileformat2.html)):
//!
//! | where | bytes | meaning |
//! |---|---|---|
//! | page 1 | 32..36 | first page of the list of free pages |
//! | free list page | 0..4 next, 4..8 count, then numbers | free pages |
//! | leaf page | 0 kind (13), 3..5 count of cells, 8.. their offsets | |
//! | cell | payload size, row id (varints), payload, 4 bytes first overflow page if it does not fit | |
//! | overflow page | 0..4 next, then payload | |
//! | payload | header size, types of the columns (varints), values | |
//! | log | 32 bytes header, then for each frame 24 bytes header and a page | see [`overlay`] |

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use bytes::Bytes;

use super::super::database::RawRow;
use super::super::database::schema::wal_path;

/// Page sizes that SQLite knows, the usual one first.
const PAGE_SIZES: [usize; 8] = [4096, 1024, 512, 2048, 8192, 16_384, 32_768, 65_536];

/// Kind of a page that is a leaf of a table.
const TABLE_LEAF: u8 = 13;

/// Kinds of pages without rows.
const OTHER_KINDS: [u8; 3] = [2, 5, 10];

/// Columns of a row.
const COLUMN_COUNT: usize = 8;

/// Longest payload that is believed.
const MAX_PAYLOAD: usize = 1 << 30;

/// The rows and the losses of all pages.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) rows: Vec<ScannedRow>,
    /// Numbers of pages that hold nothing that can be read, and nothing leads to.
    pub(super) unreadable: Vec<usize>,
    /// Pages with rows that cannot be read, and how many.
    pub(super) lost_rows: Vec<(usize, usize)>,
    /// Whether the list of free pages ends where it should not. Rows that were removed may be among the rows then.
    pub(super) is_free_list_broken: bool,
}

/// A row of a page.
#[derive(Debug)]
pub(super) struct ScannedRow {
    pub(super) row: RawRow,
    /// Bytes that are missing at the end of its content.
    pub(super) missing: usize,
    /// Whether a page of its content holds only zeros.
    pub(super) is_zeroed: bool,
}

/// Reads a file and SQLite's log beside it.
pub(super) fn scan(database: &Path) -> io::Result<Scan> {
    let file = fs::read(database)?;
    let log = fs::read(wal_path(database)).unwrap_or_default();
    // The header may be what is damaged: the page size that gives most is the right one.
    let scans = PAGE_SIZES.map(|size| Pages::new(&file, &log, size).scan());
    let best = scans.into_iter().rev().max_by_key(|scan| scan.rows.len());
    Ok(best.unwrap_or_default())
}

struct Pages<'a> {
    file: &'a [u8],
    size: usize,
    /// Pages as the log has them.
    newer: HashMap<usize, &'a [u8]>,
    count: usize,
}

impl<'a> Pages<'a> {
    fn new(file: &'a [u8], log: &'a [u8], size: usize) -> Self {
        let (newer, count) = overlay(log, size).unwrap_or_default();
        Self {
            file,
            size,
            newer,
            // A file that is cut in the middle of a page has a part of that.
            count: count.unwrap_or_else(|| file.len().div_ceil(size)),
        }
    }

    /// A page by its number, which begins at 1.
    fn page(&self, number: usize) -> Option<&'a [u8]> {
        if number == 0 || number > self.count {
            return None;
        }
        if let Some(page) = self.newer.get(&number) {
            return Some(page);
        }
        let start = (number - 1) * self.size;
        let rest = self.file.get(start..)?;
        Some(&rest[..rest.len().min(self.size)])
    }

    fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        let mut used = self.free_pages(&mut scan.is_free_list_broken);
        let mut pages = Vec::new();
        for number in 1..=self.count {
            let page = self.page(number).unwrap_or_default();
            let start = if number == 1 { 100 } else { 0 };
            match page.get(start) {
                _ if used.contains(&number) => {}
                Some(&TABLE_LEAF) => pages.push((number, page, start)),
                Some(kind) if OTHER_KINDS.contains(kind) => {
                    used.insert(number);
                }
                _ => {}
            }
        }
        for (number, page, start) in pages {
            used.insert(number);
            let lost = self.read_leaf(page, start, &mut scan.rows, &mut used);
            if lost > 0 {
                scan.lost_rows.push((number, lost));
            }
        }
        scan.unreadable = (1..=self.count)
            .filter(|page| !used.contains(page))
            .collect();
        scan
    }

    /// The pages on the list of free pages.
    fn free_pages(&self, is_broken: &mut bool) -> HashSet<usize> {
        let mut free = HashSet::new();
        let mut next = self.page(1).and_then(|page| u32_at(page, 32)).unwrap_or(0);
        while next != 0 {
            let trunk = self.page(next).filter(|_| free.insert(next));
            let read = trunk.and_then(|page| {
                let count = u32_at(page, 4)?;
                let leaves: Option<Vec<usize>> = (0..count.min(self.size))
                    .map(|index| u32_at(page, 8 + 4 * index))
                    .collect();
                free.extend(leaves?);
                u32_at(page, 0)
            });
            let Some(following) = read else {
                *is_broken = true;
                break;
            };
            next = following;
        }
        free
    }

    /// Reads the rows of a leaf. Returns how many cannot be read.
    fn read_leaf(
        &self,
        page: &[u8],
        start: usize,
        rows: &mut Vec<ScannedRow>,
        used: &mut HashSet<usize>,
    ) -> usize {
        let count = u16_at(page, start + 3).unwrap_or(0);
        let mut lost = 0;
        for index in 0..count.min(page.len() / 2) {
            let cell = u16_at(page, start + 8 + 2 * index);
            match cell.and_then(|offset| self.read_cell(page, offset, used)) {
                Some(Cell::Row(row)) => rows.push(*row),
                Some(Cell::OtherTable) => {}
                None => lost += 1,
            }
        }
        lost
    }

    fn read_cell(&self, page: &[u8], offset: usize, used: &mut HashSet<usize>) -> Option<Cell> {
        let mut at = offset;
        let size = usize::try_from(varint(page, &mut at)?).ok()?;
        let inode = varint(page, &mut at)?.cast_signed();
        let local = self.local_size(size);
        if size > MAX_PAYLOAD {
            return None;
        }
        // The page at which the file is cut has a part of it.
        let mut payload = page.get(at..page.len().min(at + local))?.to_vec();
        let mut is_zeroed = false;
        let mut next = u32_at(page, at + local).filter(|_| local < size);
        let mut seen = HashSet::new();
        while payload.len() < size
            && let Some(number) = next.filter(|number| seen.insert(*number))
            && let Some(page) = self.page(number)
            && let Some(rest) = page.get(4..)
        {
            used.insert(number);
            is_zeroed |= page.iter().all(|byte| *byte == 0);
            payload.extend_from_slice(&rest[..rest.len().min(size - payload.len())]);
            next = u32_at(page, 0).filter(|_| page.len() == self.size);
        }
        let mut cell = decode(inode, payload, size)?;
        if let Cell::Row(row) = &mut cell {
            row.is_zeroed = is_zeroed;
        }
        Some(cell)
    }

    /// How much of a payload is in its cell.
    fn local_size(&self, size: usize) -> usize {
        let most = self.size - 35;
        if size <= most {
            return size;
        }
        let least = (self.size - 12) * 32 / 255 - 23;
        let local = least + (size - least) % (self.size - 4);
        if local <= most { local } else { least }
    }
}

enum Cell {
    Row(Box<ScannedRow>),
    /// A row with another number of columns.
    OtherTable,
}

/// A row out of its payload, which may end before its `size`.
fn decode(inode: i64, payload: Vec<u8>, size: usize) -> Option<Cell> {
    let missing = size - payload.len();
    let payload = Bytes::from(payload);
    let mut at = 0;
    let header_size = usize::try_from(varint(&payload, &mut at)?).ok()?;
    let mut types = Vec::new();
    while at < header_size {
        types.push(varint(&payload, &mut at)?);
    }
    if types.len() != COLUMN_COUNT {
        return Some(Cell::OtherTable);
    }
    let mut values = types.into_iter().map(|kind| {
        let length = value_length(kind);
        let start = at.min(payload.len());
        at = at.saturating_add(length);
        (kind, payload.slice(start..at.min(payload.len())))
    });
    // The first column is the row's id, which is not stored twice.
    values.next()?;
    let mut integer = || values.next().map(|(kind, bytes)| integer_of(kind, &bytes));
    let (parent, version, writer, mtime, kind) =
        (integer()?, integer()?, integer()?, integer()?, integer()?);
    let (_, name) = values.next()?;
    let (_, data) = values.next()?;
    // What ends within its name is of no use.
    if missing > 0 && name.is_empty() {
        return None;
    }
    Some(Cell::Row(Box::new(ScannedRow {
        row: RawRow {
            inode,
            parent,
            version,
            writer,
            mtime,
            kind,
            name: Bytes::copy_from_slice(&name),
            data,
        },
        missing,
        is_zeroed: false,
    })))
}

/// Bytes of a value of this type.
fn value_length(kind: u64) -> usize {
    match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).unwrap_or(0),
        5 => 6,
        6 | 7 => 8,
        // Blobs are even, texts odd.
        _ => usize::try_from(kind.saturating_sub(12) / 2).unwrap_or(usize::MAX),
    }
}

fn integer_of(kind: u64, bytes: &[u8]) -> Option<i64> {
    match kind {
        1..=6 => {
            let first = bytes.first()?;
            let sign = if first & 0x80 == 0 { 0 } else { -1 };
            Some(
                bytes
                    .iter()
                    .fold(sign, |number, byte| number << 8 | i64::from(*byte)),
            )
        }
        8 => Some(0),
        9 => Some(1),
        _ => None,
    }
}

/// A number of one to nine bytes, seven bits in each and eight in the ninth.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for index in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if index == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_be_bytes(bytes.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// Pages of a log, and the number of pages of the database after its last transaction.
type Overlay<'a> = (HashMap<usize, &'a [u8]>, Option<usize>);

/// The pages of the complete transactions of a log. Every frame has the salts of the log's header and a checksum of
/// everything before; the first frame without them is of an earlier use or was never written whole.
fn overlay(log: &[u8], page_size: usize) -> Option<Overlay<'_>> {
    let magic = u32_at(log, 0)?;
    if magic & !1 != 0x377f_0682 || u32_at(log, 8)? != page_size {
        return None;
    }
    let word = |bytes: &[u8]| -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic & 1 == 1 {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let mut sums = (0_u32, 0_u32);
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            sums.0 = sums.0.wrapping_add(word(&pair[..4])).wrapping_add(sums.1);
            sums.1 = sums.1.wrapping_add(word(&pair[4..])).wrapping_add(sums.0);
        }
        [sums.0.to_be_bytes(), sums.1.to_be_bytes()].concat()
    };
    let (header, frames) = log.split_at_checked(32)?;
    if add(&header[..24]) != header[24..] {
        return None;
    }
    let (mut pages, mut pending, mut count) = (HashMap::new(), Vec::new(), None);
    for frame in frames.chunks_exact(24 + page_size) {
        let (head, page) = frame.split_at(24);
        add(&head[..8]);
        if head[8..16] != header[16..24] || add(page) != head[16..] {
            break;
        }
        pending.push((u32_at(head, 0)?, page));
        let size = u32_at(head, 4)?;
        if size > 0 {
            count = Some(size);
            pages.extend(pending.drain(..));
        }
    }
    Some((pages, count))
}
