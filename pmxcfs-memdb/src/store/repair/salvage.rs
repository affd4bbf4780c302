//! Reads the rows of a damaged file: row by row through SQLite, from both ends, and out of the pages where SQLite does not
//! get.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rusqlite::Connection;

use super::super::database::{self, RawRow};
use super::super::error::{StoreError, cannot};
use super::super::offline::{self, Access};
use super::pages::{self, Scan, ScannedRow};
use super::table::Table;

/// The readable rows of a damaged file.
pub(super) struct Readable {
    pub(super) table: Table,
    /// Inodes whose content ends early, with its bytes that are left and those that are missing.
    cut: BTreeMap<i64, (usize, usize)>,
    /// Inodes with a page of zeros in their content.
    zeroed: Vec<i64>,
    /// The losses of the pages.
    scan: Scan,
}

pub(super) fn read(database: &Path) -> Result<Readable, StoreError> {
    let mut scan = pages::scan(database).map_err(cannot("access the database", database))?;
    let mut table = Table::default();
    if let Ok(connection) = offline::connect(database, Access::Idle) {
        for order in ["ASC", "DESC"] {
            read_until_damage(&connection, order, &mut table);
        }
    }
    let whole: HashSet<i64> = table.rows.keys().copied().collect();
    let mut scanned = std::mem::take(&mut scan.rows);
    // Of two rows of one inode the whole one counts, and the later one.
    scanned.sort_by_key(|scanned| (scanned.missing == 0, scanned.row.version));
    let (mut cut, mut zeroed) = (BTreeMap::new(), Vec::new());
    for scanned in scanned {
        let ScannedRow {
            row,
            missing,
            is_zeroed,
        } = scanned;
        if is_zeroed && missing == 0 {
            zeroed.push(row.inode);
        }
        if whole.contains(&row.inode) {
            continue;
        }
        cut.remove(&row.inode);
        if missing > 0 {
            cut.insert(row.inode, (row.data.len(), missing));
        }
        table.insert(row);
    }
    Ok(Readable {
        table,
        cut,
        zeroed,
        scan,
    })
}

impl Readable {
    /// Moves contents that are not whole away, so that no program takes them for whole. Returns a line for each loss, and
    /// the rows.
    pub(super) fn set_aside(mut self) -> (Vec<String>, Table) {
        let mut losses = Vec::new();
        for (inode, (size, missing)) in self.cut {
            losses.push(move_cut(&mut self.table, inode, size, missing));
        }
        for inode in self.zeroed {
            losses.push(format!(
                "{} (inode {}): a page of its content holds only zeros",
                path_of(&self.table, inode),
                inode.cast_unsigned()
            ));
        }
        for (page, count) in self.scan.lost_rows {
            losses.push(format!("page {page}: {count} rows cannot be read"));
        }
        for pages in self
            .scan
            .unreadable
            .chunk_by(|page, next| page + 1 == *next)
        {
            let pages = match pages {
                [page] => format!("page {page}"),
                [first, .., last] => format!("pages {first} to {last}"),
                [] => continue,
            };
            losses.push(format!(
                "{pages} cannot be read: rows or contents that were there are lost"
            ));
        }
        if self.scan.is_free_list_broken {
            losses.push(
                "the list of free pages cannot be read: files that were removed may be back"
                    .to_owned(),
            );
        }
        (losses, self.table)
    }
}

fn read_until_damage(connection: &Connection, order: &str, table: &mut Table) {
    // An error is the end of what SQLite can read from this side.
    let _damage = database::read_raw(connection, order, |row| table.insert(row));
}

fn move_cut(table: &mut Table, inode: i64, size: usize, missing: usize) -> String {
    let path = path_of(table, inode);
    let row = table.rows.get(&inode);
    let name = row.map(|row| row.name.clone()).unwrap_or_default();
    let place = table.move_away(inode.cast_unsigned(), &name);
    format!(
        "{path} (inode {}): the last {missing} of {} bytes are lost; what is left is {place}",
        inode.cast_unsigned(),
        size + missing
    )
}

/// Where an entry is, as far as its directories can be read.
fn path_of(table: &Table, inode: i64) -> String {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    let mut at = inode;
    while at != 0 && seen.insert(at) {
        let row: Option<&RawRow> = table.rows.get(&at);
        names.push(row.map_or_else(
            || format!("<lost directory {}>", at.cast_unsigned()),
            |row| row.name.escape_ascii().to_string(),
        ));
        at = row.and_then(|row| row.parent).unwrap_or(0);
    }
    names.reverse();
    names.join("/")
}
