//! Changes become records, within one transaction.
//!
//! The changes of a [`Window`] are known one by one, in their order. Where only the entries that differ are known, `compare` makes
//! the records.

use pmxcfs_memdb::store::{Asker, Effect};
use pmxcfs_memdb::{EntryKind, ROOT_INODE, RootState};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::busy::Busy;
use super::record::{DIRECTORY, FILE, Record, Side};
use super::settings::Settings;
use super::window::{Pending, Window};

/// How hard contents are compressed: more takes processor time that the node has better use for.
const LEVEL: i32 = 3;

/// Finds the name of a node.
pub(super) type NodeName = Box<dyn Fn(u32) -> String + Send>;

/// A row of the table of entries.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) inode: u64,
    pub(super) path: Vec<u8>,
    pub(super) writer: u32,
    pub(super) side: Side,
}

/// Writes records within a transaction.
pub(super) struct Writer<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) settings: &'a Settings,
    pub(super) node_name: &'a NodeName,
    /// Clock of this node.
    pub(super) now: u32,
    pub(super) records: Vec<Record>,
    pub(super) left_out_count: u64,
}

impl Writer<'_> {
    /// Writes the changes that the table of entries, which has the state of version `known`, lacks.
    pub(super) fn apply(
        &mut self,
        window: &Window,
        known: u64,
        busy: &mut Busy,
    ) -> rusqlite::Result<()> {
        for pending in &window.pending {
            if pending.root.version > known {
                self.apply_one(pending, window, busy)?;
            }
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        pending: &Pending,
        window: &Window,
        busy: &mut Busy,
    ) -> rusqlite::Result<()> {
        let known = self.known(pending.inode)?;
        let path = match &pending.effect {
            Effect::Placed { parent, name, .. } => self.path_in(*parent, name)?,
            _ => known.as_ref().map(|known| known.path.clone()),
        };
        let path = path.filter(|path| !self.settings.is_left_out(path));
        let is_directory = known
            .as_ref()
            .is_some_and(|known| known.side.kind == Some(DIRECTORY));
        if let Some(path) = &path
            && !is_directory
            && busy.counts(path, self.now, pending.changes)
        {
            self.left_out_count += pending.changes;
            return Ok(());
        }
        match (&pending.effect, known, path) {
            (Effect::Placed { kind, .. }, known, Some(path)) => {
                self.placed(pending, *kind, known, path)
            }
            // It goes where nothing is recorded.
            (Effect::Placed { .. } | Effect::Removed, Some(known), _) => {
                self.removed(pending, known, window)
            }
            (Effect::Written { size }, Some(known), Some(_)) => {
                self.written(pending, *size, known, window)
            }
            _ => {
                self.left_out_count += pending.changes;
                Ok(())
            }
        }
    }

    fn placed(
        &mut self,
        pending: &Pending,
        kind: EntryKind,
        known: Option<Known>,
        path: Vec<u8>,
    ) -> rusqlite::Result<()> {
        let mut record = record(pending);
        let mut after = known.as_ref().map(|known| known.side.clone());
        let after = after.get_or_insert_with(|| Side {
            kind: Some(kind as u8),
            ..Side::default()
        });
        after.mtime = pending.root.mtime;
        match &known {
            Some(known) if known.path == path => {
                return self.put_entry(pending.inode, &path, pending.root, after);
            }
            Some(known) => {
                record.operation = "rename".to_owned();
                record.from = Some(known.path.clone());
            }
            None => {
                record.operation = made(kind).to_owned();
                if kind == EntryKind::File {
                    let content = pending.content.as_ref();
                    after.size = content.map_or(0, |content| size(content.len()));
                    after.content = self.intern(&path, content.map(|content| &content[..]))?;
                }
            }
        }
        record.before = self.replaced(&path, pending)?;
        self.put_entry(pending.inode, &path, pending.root, after)?;
        record.after = after.clone();
        record.path = path;
        self.push(record);
        Ok(())
    }

    /// What was at a path that an entry takes. Its removal is part of the same operation.
    fn replaced(&mut self, path: &[u8], pending: &Pending) -> rusqlite::Result<Side> {
        if let Some(last) = self.records.last()
            && last.operation == "remove"
            && last.version == pending.root.version
            && last.path == path
            && let Some(removed) = self.records.pop()
        {
            return Ok(removed.before);
        }
        // Left behind while the file was too busy to be recorded.
        let stale = self.known_at(path)?;
        for known in &stale {
            self.delete_entry(known.inode)?;
        }
        Ok(stale
            .into_iter()
            .next()
            .map(|known| known.side)
            .unwrap_or_default())
    }

    fn written(
        &mut self,
        pending: &Pending,
        size: u32,
        mut known: Known,
        window: &Window,
    ) -> rusqlite::Result<()> {
        let mut record = record(pending);
        record.operation = "content".to_owned();
        if known.side.content.is_none() {
            let former = window.former.get(&pending.inode);
            known.side.content = self.intern(&known.path, former.map(|data| &data[..]))?;
        }
        let content = pending.content.as_ref().map(|content| &content[..]);
        record.before = known.side;
        record.after = Side {
            kind: Some(FILE),
            size,
            mtime: pending.root.mtime,
            content: self.intern(&known.path, content)?,
        };
        self.put_entry(pending.inode, &known.path, pending.root, &record.after)?;
        record.path = known.path;
        self.push(record);
        Ok(())
    }

    fn removed(
        &mut self,
        pending: &Pending,
        mut known: Known,
        window: &Window,
    ) -> rusqlite::Result<()> {
        let mut record = record(pending);
        record.operation = "remove".to_owned();
        if known.side.content.is_none() {
            let last = window.removed.get(&pending.inode);
            known.side.content = self.intern(&known.path, last.map(|data| &data[..]))?;
        }
        self.delete_entry(pending.inode)?;
        record.before = known.side;
        record.path = known.path;
        self.push(record);
        Ok(())
    }

    /// A record that something is missing.
    pub(super) fn gap(&mut self, reason: &str, version: u64) {
        self.push(Record {
            version,
            time: self.now,
            operation: "gap".to_owned(),
            source: "comparison".to_owned(),
            reason: Some(reason.to_owned()),
            changes: 1,
            ..Record::default()
        });
    }

    pub(super) fn push(&mut self, mut record: Record) {
        record.node = (self.node_name)(record.node_id);
        self.records.push(record);
    }

    fn path_in(&self, parent: u64, name: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        if parent == ROOT_INODE {
            return Ok(Some(name.to_vec()));
        }
        let directory = self.known(parent)?;
        Ok(directory.map(|directory| [&directory.path, name].join(&b'/')))
    }

    pub(super) fn known(&self, inode: u64) -> rusqlite::Result<Option<Known>> {
        self.transaction
            .prepare_cached(&format!("{KNOWN} WHERE inode = ?1"))?
            .query_row([inode.cast_signed()], Known::read)
            .optional()
    }

    pub(super) fn known_at(&self, path: &[u8]) -> rusqlite::Result<Vec<Known>> {
        let mut statement = self
            .transaction
            .prepare_cached(&format!("{KNOWN} WHERE path = ?1"))?;
        let rows = statement.query_map([path], Known::read)?;
        rows.collect()
    }

    /// What is known of a file and of its temporary ones.
    pub(super) fn known_below_name(&self, path: &[u8]) -> rusqlite::Result<Vec<Known>> {
        let (low, high) = ([path, b".tmp."].concat(), [path, b".tmp/"].concat());
        let select = format!("{KNOWN} WHERE path = ?1 OR (path >= ?2 AND path < ?3)");
        let mut statement = self.transaction.prepare_cached(&select)?;
        let rows = statement.query_map(params![path, low, high], Known::read)?;
        rows.collect()
    }

    pub(super) fn delete_entry(&self, inode: u64) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("DELETE FROM entry WHERE inode = ?1")?
            .execute([inode.cast_signed()])?;
        Ok(())
    }

    pub(super) fn put_entry(
        &self,
        inode: u64,
        path: &[u8],
        root: RootState,
        side: &Side,
    ) -> rusqlite::Result<()> {
        put_entry(self.transaction, inode, path, root, side)
    }

    /// The row of a content, which is stored if it is new.
    pub(super) fn intern(&self, path: &[u8], data: Option<&[u8]>) -> rusqlite::Result<Option<i64>> {
        let Some(data) = data else {
            return Ok(None);
        };
        let hash = Sha256::digest(data);
        let keeps = self.settings.keeps_content(path);
        let stored: Option<(i64, bool)> = self
            .transaction
            .prepare_cached("SELECT id, data IS NOT NULL FROM content WHERE hash = ?1")?
            .query_row([&hash[..]], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, has_data)) = stored
            && (has_data || !keeps)
        {
            return Ok(Some(id));
        }
        // Memory is all that compressing can fail for; the hash is kept then.
        let frame = keeps
            .then(|| zstd::bulk::compress(data, LEVEL).ok())
            .flatten();
        if let Some((id, _)) = stored {
            self.transaction
                .prepare_cached("UPDATE content SET data = ?2 WHERE id = ?1")?
                .execute(params![id, frame])?;
            return Ok(Some(id));
        }
        self.transaction
            .prepare_cached("INSERT INTO content (hash, size, data) VALUES (?1, ?2, ?3)")?
            .execute(params![&hash[..], size(data.len()), frame])?;
        Ok(Some(self.transaction.last_insert_rowid()))
    }
}

/// Selects what [`Known::read`] reads.
pub(super) const KNOWN: &str = "SELECT inode, path, writer, kind, size, mtime, content FROM entry";

impl Known {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            inode: row.get::<_, i64>(0)?.cast_unsigned(),
            path: row.get(1)?,
            writer: row.get(2)?,
            side: Side {
                kind: Some(row.get(3)?),
                size: row.get(4)?,
                mtime: row.get(5)?,
                content: row.get(6)?,
            },
        })
    }
}

/// Enters an entry in the table.
pub(super) fn put_entry(
    transaction: &Transaction<'_>,
    inode: u64,
    path: &[u8],
    root: RootState,
    side: &Side,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO entry (inode, path, kind, version, writer, mtime, size, content) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            inode.cast_signed(),
            path,
            side.kind,
            root.version.cast_signed(),
            root.writer,
            side.mtime,
            side.size,
            side.content
        ])?;
    Ok(())
}

fn record(pending: &Pending) -> Record {
    let asker = pending.asker;
    Record {
        version: pending.root.version,
        time: pending.root.mtime,
        source: "operation".to_owned(),
        node_id: pending.root.writer,
        changes: pending.changes,
        uid: asker.map(|asker| asker.uid),
        pid: asker.map(|asker| asker.pid),
        program: asker.as_ref().map(program),
        ..Record::default()
    }
}

fn program(asker: &Asker) -> String {
    let name = asker.program.split(|byte| *byte == 0).next();
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// The operation that makes an entry.
pub(super) const fn made(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "create",
        EntryKind::Directory => "mkdir",
    }
}

fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
