//! Reads the rows of a damaged file: row by row through SQLite, from both ends, and out of the pages where SQLite does not
//! get.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::Connection;

use super::super::database::{self, RawRow};
use super::super::offline::{self, Access, ExamineError};
use super::pages::{self, ScannedRow};
use super::table::Table;

/// The readable rows, and a line for each loss. Contents that are not whole are moved away, so that no program takes them
/// for whole.
pub(super) fn read(database: &Path) -> Result<(Table, Vec<String>), ExamineError> {
    let scan = pages::scan(database).map_err(offline::access_error(database))?;
    let mut table = Table::default();
    if let Ok(connection) = offline::connect(database, Access::Idle) {
        for order in ["ASC", "DESC"] {
            read_until_damage(&connection, order, &mut table);
        }
    }
    let whole: HashSet<i64> = table.rows.keys().copied().collect();
    let mut scanned = scan.rows;
    // Of two rows of one inode the whole one counts, and the later one.
    scanned.sort_by_key(|scanned| (scanned.missing == 0, scanned.row.version));
    let mut cut = Vec::new();
    let mut zeroed = Vec::new();
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
        cut.retain(|(inode, _, _)| *inode != row.inode);
        if missing > 0 {
            cut.push((row.inode, row.data.len(), missing));
        }
        table.insert(row);
    }
    let mut losses = Vec::new();
    for (inode, size, missing) in cut {
        losses.push(move_cut(&mut table, inode, size, missing));
    }
    for inode in zeroed {
        losses.push(format!(
            "{} (inode {}): a page of its content holds only zeros",
            path_of(&table, inode),
            inode.cast_unsigned()
        ));
    }
    for (page, count) in scan.lost_rows {
        losses.push(format!("page {page}: {count} rows cannot be read"));
    }
    for page in scan.unreadable {
        losses.push(format!(
            "page {page} cannot be read: rows or contents that it held are lost"
        ));
    }
    if scan.is_free_list_broken {
        losses.push(
            "the list of free pages cannot be read: files that were removed may be back".to_owned(),
        );
    }
    Ok((table, losses))
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
