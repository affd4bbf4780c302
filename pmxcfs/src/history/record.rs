//! A record, as programs see it, and how it is stored.

use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};

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

/// A record in JSON. Fields are added and never change their meaning; what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecordJson {
    /// Number of the record in the history of this node; 0 for a notice to a follower.
    pub(crate) seq: i64,
    /// Version of the tree after the change.
    pub(crate) version: u64,
    /// RFC 3339.
    pub(crate) time: String,
    /// `create`, `content`, `mkdir`, `remove`, `rename`, `gap`.
    pub(crate) operation: String,
    /// `operation`, `synchronisation`, `comparison`, `summary`.
    pub(crate) source: String,
    /// Path below the mount. Bytes that are not UTF-8 are replaced.
    pub(crate) path: String,
    /// The path in hexadecimal digits, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_hex: Option<String>,
    /// Where a rename took the entry from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The node that made the change; for a synchronisation its leader.
    pub(crate) node: String,
    /// Its id; 0 in local mode.
    pub(crate) node_id: u32,
    /// How many changes the record stands for.
    pub(crate) changes: u64,
    /// Size afterwards in bytes; absent for what is gone and for directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u32>,
    /// Size of what was at the path before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old_size: Option<u32>,
    /// SHA-256 of the content afterwards.
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
    /// Of a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The columns of [`Record::read`], from `record AS r`.
pub(crate) const COLUMNS: &str = "r.seq, r.version, r.time, r.operation, r.source, r.path, r.from_path, r.node_id, r.node, \
     r.changes, r.kind, r.size, r.mtime, r.content, r.old_kind, r.old_size, r.old_mtime, r.old_content, r.uid, r.pid, r.program, \
     r.reason, (SELECT hash FROM content WHERE id = r.content)";

impl Record {
    /// Reads a row of [`COLUMNS`].
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let side = |first: usize| -> rusqlite::Result<Side> {
            Ok(Side {
                kind: row.get(first)?,
                size: row.get::<_, Option<u32>>(first + 1)?.unwrap_or(0),
                mtime: row.get::<_, Option<u32>>(first + 2)?.unwrap_or(0),
                content: row.get(first + 3)?,
            })
        };
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
            after: side(10)?,
            before: side(14)?,
            uid: row.get(18)?,
            pid: row.get(19)?,
            program: row.get(20)?,
            reason: row.get(21)?,
            hash: row.get(22)?,
        })
    }

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

    /// The line of JSON for programs.
    #[must_use]
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(&self.to_json()).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// For programs.
    #[must_use]
    fn to_json(&self) -> RecordJson {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let size = |side: &Side| side.kind.filter(|kind| *kind == FILE).map(|_| side.size);
        RecordJson {
            seq: self.seq,
            version: self.version,
            time: rfc3339(self.time),
            operation: self.operation.clone(),
            source: self.source.clone(),
            path: text(&self.path),
            path_hex: std::str::from_utf8(&self.path)
                .is_err()
                .then(|| hex(&self.path)),
            from: self.from.as_deref().map(text),
            node: self.node.clone(),
            node_id: self.node_id,
            changes: self.changes,
            size: size(&self.after),
            old_size: size(&self.before),
            sha256: self.hash.as_deref().map(hex),
            uid: self.uid,
            pid: self.pid,
            program: self.program.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// [`Side::kind`] of a file.
pub(crate) const FILE: u8 = 8;

/// [`Side::kind`] of a directory.
pub(crate) const DIRECTORY: u8 = 4;

/// A time in UTC.
#[must_use]
pub(crate) fn rfc3339(secs: u32) -> String {
    let at = jiff::Timestamp::from_second(secs.into());
    at.map_or_else(|_| secs.to_string(), |at| at.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
