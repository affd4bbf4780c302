//! A record, as it is stored and as programs see it.

use pmxcfs_memdb::EntryKind;
use rusqlite::{Row, Transaction, params};
use serde::{Serialize, Serializer};

use crate::text::{escape_path, time};

/// One end of a change: what was or is at its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Side {
    /// An [`EntryKind`]; `None` if there is nothing.
    pub(crate) kind: Option<u8>,
    /// In bytes; 0 if it is no file.
    pub(crate) size: u32,
    /// Row of the content, if it is known.
    pub(crate) content: Option<i64>,
}

/// A change of one entry, or a gap.
///
/// In JSON, fields are added and never change their meaning, and what is not known is left out. Bytes of a path that are not
/// printable UTF-8 are `\xNN`, a backslash is `\\`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    /// Number of the record in the history of this node. A change that is not recorded yet has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<i64>,
    /// Version of the tree after the change.
    pub(crate) version: u64,
    /// Seconds since 1970; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: u32,
    /// `create`, `content`, `mkdir`, `remove`, `rename`, `gap`; `behind` as a notice to a follower.
    pub(crate) operation: String,
    /// `operation`, `synchronisation`, `comparison`, `summary`.
    pub(crate) source: String,
    /// Path below the mount, without a leading slash.
    #[serde(serialize_with = "escaped")]
    pub(crate) path: Vec<u8>,
    /// Where a rename took the entry from, else empty.
    #[serde(serialize_with = "escaped", skip_serializing_if = "Vec::is_empty")]
    pub(crate) from: Vec<u8>,
    /// The node that made the change; for a synchronisation its leader.
    pub(crate) node: String,
    /// Its id; 0 in local mode.
    pub(crate) node_id: u32,
    /// How many changes the record stands for.
    pub(crate) changes: u64,
    /// What is at the path afterwards; its size in JSON.
    #[serde(
        rename = "size",
        serialize_with = "size",
        skip_serializing_if = "Side::is_no_file"
    )]
    pub(crate) after: Side,
    /// What was there before.
    #[serde(
        rename = "old_size",
        serialize_with = "size",
        skip_serializing_if = "Side::is_no_file"
    )]
    pub(crate) before: Side,
    /// SHA-256 of the content afterwards, in hexadecimal digits. Read only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// User that asked for the change through the mount of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    /// Its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    /// Name of the thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    /// Of a gap or a notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The columns of [`Record::read`], from `record AS r`.
pub(crate) const COLUMNS: &str = "r.seq, r.version, r.time, r.operation, r.source, r.path, coalesce(r.from_path, x''), r.node_id, \
     r.node, r.changes, r.kind, r.size, r.content, r.old_kind, r.old_size, r.old_content, r.uid, r.pid, r.program, r.reason, \
     (SELECT lower(hex(hash)) FROM content WHERE id = r.content)";

impl Record {
    /// Reads a row of [`COLUMNS`].
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            version: row.get::<_, i64>(1)?.cast_unsigned(),
            time: row.get(2)?,
            operation: row.get(3)?,
            source: row.get(4)?,
            path: row.get(5)?,
            from: row.get(6)?,
            node_id: row.get(7)?,
            node: row.get(8)?,
            changes: row.get::<_, i64>(9)?.cast_unsigned(),
            after: Side::read(row, 10)?,
            before: Side::read(row, 13)?,
            uid: row.get(16)?,
            pid: row.get(17)?,
            program: row.get(18)?,
            reason: row.get(19)?,
            sha256: row.get(20)?,
        })
    }

    /// Stores it. Returns its number.
    pub(super) fn insert(&self, transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
        let (after, before) = (&self.after, &self.before);
        transaction
            .prepare_cached(
                "INSERT INTO record (version, time, operation, source, path, from_path, node_id, node, changes, kind, size, \
                 content, old_kind, old_size, old_content, uid, pid, program, reason) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                self.version.cast_signed(),
                self.time,
                self.operation,
                self.source,
                self.path,
                Some(&self.from).filter(|from| !from.is_empty()),
                self.node_id,
                self.node,
                self.changes.cast_signed(),
                after.kind,
                after.size,
                after.content,
                before.kind,
                before.size,
                before.content,
                self.uid,
                self.pid,
                self.program,
                self.reason,
            ])?;
        Ok(transaction.last_insert_rowid())
    }

    /// The line of JSON for programs.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl Side {
    /// Reads kind, size and content from this column on.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            kind: row.get(first)?,
            size: row.get(first + 1)?,
            content: row.get(first + 2)?,
        })
    }

    fn is_no_file(&self) -> bool {
        self.kind != Some(FILE)
    }
}

/// [`Side::kind`] of a file.
pub(crate) const FILE: u8 = EntryKind::File as u8;

fn rfc3339<S: Serializer>(secs: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time(*secs))
}

fn escaped<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape_path(path))
}

fn size<S: Serializer>(side: &Side, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(side.size)
}
