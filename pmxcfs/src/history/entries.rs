//! The table of entries: the state of the tree after the last record.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pmxcfs_memdb::{Entry, ROOT_INODE, RootState, Tree};
use rusqlite::{Connection, Params, Transaction, params};

use super::record::Side;

/// An entry of the tree with its path; `None` if it is gone.
pub(super) type Found = (u64, Option<(Bytes, Entry)>);

/// A row of the table.
pub(super) struct Known {
    pub(super) inode: u64,
    pub(super) path: Vec<u8>,
    pub(super) writer: u32,
    pub(super) side: Side,
}

/// The table within a transaction.
pub(super) struct Entries<'a>(pub(super) &'a Transaction<'a>);

impl Entries<'_> {
    fn select(&self, condition: &str, values: impl Params) -> rusqlite::Result<Vec<Known>> {
        let columns = "inode, path, writer, kind, size, content";
        let select = format!("SELECT {columns} FROM entry WHERE {condition}");
        let mut statement = self.0.prepare_cached(&select)?;
        let rows = statement.query_map(values, |row| {
            Ok(Known {
                inode: row.get::<_, i64>(0)?.cast_unsigned(),
                path: row.get(1)?,
                writer: row.get(2)?,
                side: Side::read(row, 3)?,
            })
        })?;
        rows.collect()
    }

    fn execute(&self, statement: &str, values: impl Params) -> rusqlite::Result<()> {
        self.0.prepare_cached(statement)?.execute(values).map(drop)
    }

    pub(super) fn known(&self, inode: u64) -> rusqlite::Result<Option<Known>> {
        let rows = self.select("inode = ?1", [inode.cast_signed()])?;
        Ok(rows.into_iter().next())
    }

    /// Takes the rows of a path out.
    pub(super) fn take_at(&self, path: &[u8]) -> rusqlite::Result<Option<Known>> {
        let rows = self.select("path = ?1", [path])?;
        for known in &rows {
            self.delete(known.inode)?;
        }
        Ok(rows.into_iter().next())
    }

    /// What is below a directory, parents first.
    pub(super) fn below(&self, path: &[u8]) -> rusqlite::Result<Vec<Known>> {
        let (low, high) = ([path, b"/"].concat(), [path, b"0"].concat());
        self.select("path >= ?1 AND path < ?2 ORDER BY path", [low, high])
    }

    pub(super) fn move_to(&self, inode: u64, path: &[u8]) -> rusqlite::Result<()> {
        let update = "UPDATE entry SET path = ?2 WHERE inode = ?1";
        self.execute(update, params![inode.cast_signed(), path])
    }

    pub(super) fn delete(&self, inode: u64) -> rusqlite::Result<()> {
        self.execute("DELETE FROM entry WHERE inode = ?1", [inode.cast_signed()])
    }

    pub(super) fn put(
        &self,
        inode: u64,
        path: &[u8],
        root: RootState,
        side: &Side,
    ) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO entry (inode, path, kind, version, writer, mtime, size, content) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let values = params![
            inode.cast_signed(),
            path,
            side.kind,
            root.version.cast_signed(),
            root.writer,
            root.mtime,
            side.size,
            side.content
        ];
        self.execute(insert, values)
    }
}

/// What changed an entry last.
pub(super) const fn last_change(entry: &Entry) -> RootState {
    RootState {
        version: entry.version,
        writer: entry.writer,
        mtime: entry.mtime,
    }
}

/// What is at the path of an entry. Its content is not looked at.
pub(super) fn side(entry: &Entry) -> Side {
    Side {
        kind: Some(entry.kind as u8),
        size: entry.size,
        content: None,
    }
}

/// Files whose content the history has.
pub(super) fn with_content(connection: &Connection) -> rusqlite::Result<HashSet<u64>> {
    let select = "SELECT inode FROM entry WHERE content IS NOT NULL";
    let mut statement = connection.prepare(select)?;
    let rows = statement.query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
    rows.collect()
}

/// The last change and the size of all entries.
pub(super) type Versions = HashMap<u64, (RootState, u32)>;

/// Reads those of the table.
pub(super) fn versions(connection: &Connection) -> rusqlite::Result<Versions> {
    let select = "SELECT inode, version, writer, mtime, size FROM entry";
    let mut statement = connection.prepare(select)?;
    let rows = statement.query_map([], |row| {
        let root = RootState {
            version: row.get::<_, i64>(1)?.cast_unsigned(),
            writer: row.get(2)?,
            mtime: row.get(3)?,
        };
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), (root, row.get(4)?)))
    })?;
    rows.collect()
}

/// Entries that differ from the table.
pub(super) fn differing(tree: &Tree, known: &Versions) -> Vec<Found> {
    let gone = known.keys().filter(|inode| tree.entry(**inode).is_none());
    let gone = gone.map(|inode| (*inode, None));
    let changed = tree.entries().filter(|entry| {
        let now = (last_change(entry), entry.size);
        entry.inode != ROOT_INODE && known.get(&entry.inode) != Some(&now)
    });
    let changed = changed.filter_map(|entry| {
        let path = tree.path_of(entry.inode)?;
        Some((entry.inode, Some((path, entry.clone()))))
    });
    gone.chain(changed).collect()
}
