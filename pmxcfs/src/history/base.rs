//! The table of entries as a whole: how it begins, and how it differs from the tree.

use std::collections::{HashMap, HashSet};

use pmxcfs_api_types::time::wall_clock_secs;
use pmxcfs_memdb::{Entry, ROOT_INODE, RootState, Tree};
use rusqlite::{Transaction, params};

use super::record::Side;
use super::schema::{HistoryError, HistoryFile};
use super::settings::Settings;
use super::write::put_entry;

/// Inode, path, what changed it last, and the rest.
type Metadata = (u64, Vec<u8>, RootState, Side);

/// A state that records follow.
pub(super) struct Base {
    pub(super) root: RootState,
    /// Path and metadata of all entries, where they are needed.
    pub(super) entries: Option<Vec<Metadata>>,
}

impl Base {
    /// The present state of the tree, its root alone if that is enough.
    pub(super) fn of(tree: &Tree, is_root_enough: bool) -> Self {
        Self {
            root: tree.root(),
            entries: (!is_root_enough).then(|| metadata(tree)),
        }
    }
}

fn metadata(tree: &Tree) -> Vec<Metadata> {
    let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
    let rows = entries.filter_map(|entry| {
        let root = RootState {
            version: entry.version,
            writer: entry.writer,
            mtime: entry.mtime,
        };
        let side = Side {
            kind: Some(entry.kind as u8),
            size: entry.size,
            mtime: entry.mtime,
            content: None,
        };
        Some((entry.inode, tree.path_of(entry.inode)?.to_vec(), root, side))
    });
    rows.collect()
}

/// Makes it the state of the table of entries.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    settings: &Settings,
    base: &Base,
) -> rusqlite::Result<()> {
    transaction.execute_batch("DELETE FROM entry; DELETE FROM state")?;
    transaction.execute(
        "INSERT INTO state (version, oldest_version, oldest_time) VALUES (?1, ?1, ?2)",
        params![base.root.version.cast_signed(), wall_clock_secs()],
    )?;
    for (inode, path, root, side) in base.entries.iter().flatten() {
        if !settings.is_left_out(path) {
            put_entry(transaction, *inode, path, *root, side)?;
        }
    }
    Ok(())
}

/// Files whose content the history has.
pub(super) fn known_contents(file: &HistoryFile) -> Result<HashSet<u64>, HistoryError> {
    let select = "SELECT inode FROM entry WHERE content IS NOT NULL";
    let mut statement = file.connection.prepare(select)?;
    let rows = statement.query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Version, writer, mtime and size of all entries of the table.
pub(super) type Versions = HashMap<u64, (u64, u32, u32, u32)>;

/// Reads them.
pub(super) fn known_versions(file: &HistoryFile) -> Result<Versions, HistoryError> {
    let select = "SELECT inode, version, writer, mtime, size FROM entry";
    let mut statement = file.connection.prepare(select)?;
    let rows = statement.query_map([], |row| {
        let version = row.get::<_, i64>(1)?.cast_unsigned();
        let inode = row.get::<_, i64>(0)?.cast_unsigned();
        Ok((inode, (version, row.get(2)?, row.get(3)?, row.get(4)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Entries that differ from the table, `None` for those that are gone.
pub(super) fn differing(tree: &Tree, known: &Versions) -> Vec<(u64, Option<Entry>)> {
    let gone = known.keys().filter(|inode| tree.entry(**inode).is_none());
    let gone = gone.map(|inode| (*inode, None));
    let entries = tree.entries().filter(|entry| entry.inode != ROOT_INODE);
    let changed = entries.filter(|entry| {
        let now = (entry.version, entry.writer, entry.mtime, entry.size);
        known.get(&entry.inode) != Some(&now)
    });
    let changed = changed.map(|entry| (entry.inode, Some(entry.clone())));
    let mut rows: Vec<_> = gone.chain(changed).collect();
    rows.sort_unstable_by_key(|(inode, _)| *inode);
    rows
}
