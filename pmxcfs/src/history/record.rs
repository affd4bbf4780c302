//! A record, as programs see it, and how it is stored.

use rusqlite::{Transaction, params};

/// One end of a change: what was or is at its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Side {
    /// 4 directory, 8 file, `None` if there is nothing.
    pub(crate) kind: Option<u8>,
    pub(crate) size: u32,
    pub(crate) mtime: u32,
    /// Row of the content, if it is known.
    pub(crate) content: Option<i64>,
}

/// A change of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: i64,
    pub(crate) version: u64,
    pub(crate) time: u32,
    pub(crate) operation: String,
    pub(crate) source: String,
    pub(crate) path: Vec<u8>,
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) node_id: u32,
    pub(crate) node: String,
    pub(crate) changes: u64,
    pub(crate) after: Side,
    pub(crate) before: Side,
    pub(crate) uid: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) program: Option<String>,
    pub(crate) reason: Option<String>,
    /// SHA-256 of the content afterwards.
    pub(crate) hash: Option<Vec<u8>>,
}

impl Record {
    /// Stores it and learns its number.
    pub(super) fn insert(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let (after, before) = (&self.after, &self.before);
        transaction
            .prepare_cached(
                "INSERT INTO record (version, time, operation, source, path, from_path, node_id, node, changes, kind, size, \
                 mtime, content, old_kind, old_size, old_mtime, old_content, uid, pid, program, reason) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
            )?
            .execute(params![
                self.version.cast_signed(),
                self.time,
                self.operation,
                self.source,
                self.path,
                self.from,
                self.node_id,
                self.node,
                self.changes.cast_signed(),
                after.kind,
                after.kind.map(|_| after.size),
                after.kind.map(|_| after.mtime),
                after.content,
                before.kind,
                before.kind.map(|_| before.size),
                before.kind.map(|_| before.mtime),
                before.content,
                self.uid,
                self.pid,
                self.program,
                self.reason,
            ])?;
        self.seq = transaction.last_insert_rowid();
        if let Some(content) = self.after.content {
            let hash = "SELECT hash FROM content WHERE id = ?1";
            let mut hash = transaction.prepare_cached(hash)?;
            self.hash = Some(hash.query_row([content], |row| row.get(0))?);
        }
        Ok(())
    }
}

/// [`Side::kind`] of a file.
pub(crate) const FILE: u8 = 8;

/// [`Side::kind`] of a directory.
pub(crate) const DIRECTORY: u8 = 4;
